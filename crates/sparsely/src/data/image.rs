//! One image: from a file or bytes to pixels of a given size and number of channels.
//!
//! Headers are read and judged before anything of the claimed size is allocated.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};

use crate::{Error, Result};

/// The longest side of an image that is decoded, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most that one decoded image may take; also the most that an encoded file may.
pub const MAX_DECODED_BYTES: u64 = 256 << 20;

/// The shape that every image of a dataset is brought to: `[size, size, channels]`, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Height and width in pixels.
    pub size: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
}

impl ImageShape {
    /// A shape with sides of `1..=MAX_SIDE` pixels and 1 or 3 channels; an error for any other.
    pub fn new(size: usize, channels: usize) -> Result<ImageShape> {
        if !(1..=MAX_SIDE as usize).contains(&size) || !matches!(channels, 1 | 3) {
            return Err(Error::Argument {
                op: "ImageShape::new",
                expected: format!("a size of 1 to {MAX_SIDE} pixels and 1 or 3 channels"),
                got: format!("size {size}, {channels} channels"),
            });
        }
        Ok(ImageShape { size, channels })
    }

    /// Bytes of one image: `size² · channels`.
    pub fn byte_count(self) -> usize {
        self.size * self.size * self.channels
    }
}

/// What an image says of itself before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) is_grey: bool,
}

/// What is wrong with an image, before it is known which file holds it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl From<ImageError> for Fault {
    fn from(error: ImageError) -> Fault {
        let expected = match error {
            ImageError::Limits(_) => allowed(),
            _ => "a whole image".into(),
        };
        Fault { expected, got: error.to_string().replace('\n', " ") }
    }
}

fn allowed() -> String {
    let mebibytes = MAX_DECODED_BYTES >> 20;
    format!("an image of at most {MAX_SIDE} pixels a side and {mebibytes} MiB decoded")
}

/// Reads the image in `path` and brings it to `[size, size, channels]`, height first.
///
/// The middle square of the image is resized; colours become grey where `channels` is 1; what is
/// transparent becomes white. The error names the file: missing, not an image, cut short, or
/// larger than [`MAX_SIDE`] or [`MAX_DECODED_BYTES`] allow.
pub fn load_image(path: &Path, size: usize, channels: usize) -> Result<Vec<u8>> {
    decode_file(path, ImageShape::new(size, channels)?)
}

/// The pixels of the image file `path` in `shape`.
pub(crate) fn decode_file(path: &Path, shape: ImageShape) -> Result<Vec<u8>> {
    let image = decode(open(path)?).map_err(|fault| fault.of_file(path))?;
    Ok(fit(image, shape))
}

/// The header of the image file `path`.
pub(crate) fn file_header(path: &Path) -> Result<Header> {
    read_header(open(path)?).map_err(|fault| fault.of_file(path))
}

/// The pixels of an image in memory, in `shape`.
pub(crate) fn decode_bytes(bytes: &[u8], shape: ImageShape) -> Result<Vec<u8>, Fault> {
    Ok(fit(decode(Cursor::new(bytes))?, shape))
}

/// The header of an image in memory.
pub(crate) fn read_header(input: impl BufRead + Seek) -> Result<Header, Fault> {
    let decoder = decoder(input)?;
    let (width, height) = decoder.dimensions();
    let is_grey = !decoder.color_type().has_color();
    Ok(Header { width: width as usize, height: height as usize, is_grey })
}

impl Fault {
    pub(crate) fn of_file(self, path: &Path) -> Error {
        Error::format(path, self.expected, self.got)
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    // Some decoders read the whole file before they look at it.
    let bytes = file.metadata().map_err(Error::io("read", path))?.len();
    if bytes > MAX_DECODED_BYTES {
        let expected = format!("an image file of at most {} MiB", MAX_DECODED_BYTES >> 20);
        return Err(Error::format(path, expected, format!("{} MiB", bytes >> 20)));
    }
    Ok(BufReader::new(file))
}

/// A decoder that has read the header and found its claims within limits.
fn decoder<'a>(input: impl BufRead + Seek + 'a) -> Result<impl ImageDecoder + 'a, Fault> {
    let mut reader = ImageReader::new(input).with_guessed_format().map_err(ImageError::from)?;
    if reader.format().is_none() {
        let expected = "a PNG, JPEG, BMP, GIF or WebP image".into();
        return Err(Fault { expected, got: "none of these".into() });
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let is_empty = width == 0 || height == 0;
    if is_empty || width.max(height) > MAX_SIDE || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(Fault { expected: allowed(), got: format!("{width}×{height} pixels") });
    }
    Ok(decoder)
}

fn decode(input: impl BufRead + Seek) -> Result<DynamicImage, Fault> {
    let mut decoder = decoder(input)?;
    // A camera turns the picture by a note in the file; a note that cannot be read turns nothing.
    let orientation = decoder.orientation();
    let mut image = DynamicImage::from_decoder(decoder)?;
    if let Ok(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    Ok(image)
}

/// The middle square of `image`, resized to `shape`.
///
/// The square is cut before it is resized, not after: a strip of 16,000×1 pixels would grow to
/// gigabytes if its shorter side was stretched first.
pub(crate) fn fit(mut image: DynamicImage, shape: ImageShape) -> Vec<u8> {
    let size = shape.size as u32;
    let (width, height) = (image.width(), image.height());
    let side = width.min(height);
    if width != height {
        image = image.crop_imm((width - side) / 2, (height - side) / 2, side, side);
    }
    if image.color().has_alpha() {
        image = DynamicImage::ImageRgb8(on_white(&image));
    }
    if side != size {
        image = image.resize_exact(size, size, FilterType::Triangle);
    }
    if shape.channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() }
}

fn on_white(image: &DynamicImage) -> RgbImage {
    let rgba = image.to_rgba8();
    let over = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [red, green, blue, alpha] = rgba.get_pixel(x, y).0;
        image::Rgb([over(red, alpha), over(green, alpha), over(blue, alpha)])
    })
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
