use std::fs;
use std::path::PathBuf;

use image::{GrayImage, Luma, Rgb, Rgba, RgbaImage};
use tempfile::TempDir;

use super::*;

/// A PNG that claims `width × height` grey pixels and holds none of them.
fn hollow_png(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(&header);
    png.extend(crc.sum().to_be_bytes());
    png.extend([0, 0, 0, 0]);
    png.extend(b"IDAT\x35\xaf\x06\x1e");
    png
}

fn folder_with(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn png_of(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn message(path: &Path) -> String {
    load_image(path, 8, 1).unwrap_err().to_string()
}

#[test]
fn missing_file_is_named() {
    assert_eq!(message(Path::new("no/such.png")), "cannot read `no/such.png`");
}

#[test]
fn text_named_png_is_refused() {
    let (_folder, path) = folder_with("note.png", b"not an image at all");
    let name = path.display();
    let expected =
        format!("`{name}`: expected a PNG, JPEG, BMP, GIF or WebP image, got none of these");
    assert_eq!(message(&path), expected);
}

#[test]
fn truncated_png_is_refused() {
    let whole = png_of(&GrayImage::from_fn(64, 64, |x, y| Luma([(x * y) as u8])).into());
    let (_folder, path) = folder_with("cut.png", &whole[..whole.len() / 2]);
    let name = path.display();
    let expected = format!("`{name}`: expected a whole image, got unexpected end of file");
    assert_eq!(message(&path), expected);
}

#[test]
fn huge_claim_is_refused_by_its_header() {
    for (width, height) in [(30_000, 30_000), (16_385, 1), (16_384, 16_385)] {
        let (_folder, path) = folder_with("huge.png", &hollow_png(width, height));
        let name = path.display();
        let expected = format!(
            "`{name}`: expected an image of at most 16384 pixels a side and 256 MiB decoded, \
             got {width}×{height} pixels"
        );
        assert_eq!(message(&path), expected);
    }
}

#[test]
fn sixteen_thousand_square_is_too_many_bytes() {
    // 16,384² grey pixels are exactly 256 MiB; in 16 bits each they are twice that.
    let header = read_header(Cursor::new(hollow_png(16_384, 16_384))).unwrap();
    assert_eq!(header, Header { width: 16_384, height: 16_384, is_grey: true });
    let mut sixteen_bits = hollow_png(16_384, 16_384);
    sixteen_bits[24] = 16;
    let mut crc = flate2::Crc::new();
    crc.update(&sixteen_bits[12..29]);
    sixteen_bits[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let fault = read_header(Cursor::new(sixteen_bits)).unwrap_err();
    assert_eq!(fault.got, "16384×16384 pixels");
}

#[test]
fn transparent_becomes_white() {
    let image = RgbaImage::from_fn(2, 1, |x, _| Rgba([10, 20, 30, if x == 0 { 0 } else { 255 }]));
    let white = on_white(&image.into());
    assert_eq!(*white.get_pixel(0, 0), Rgb([255, 255, 255]));
    assert_eq!(*white.get_pixel(1, 0), Rgb([10, 20, 30]));
}

#[test]
fn middle_square_is_kept() {
    // A row 0 1 2 3 4 5 of three-pixel height: columns 1 to 3 stay (the left one on a tie).
    let image = GrayImage::from_fn(6, 3, |x, _| Luma([x as u8]));
    let pixels = fit(image.into(), ImageShape::new(3, 1).unwrap());
    assert_eq!(pixels, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
}

#[test]
fn grey_image_in_three_channels_repeats_itself() {
    let image = GrayImage::from_pixel(4, 4, Luma([77]));
    let (_folder, path) = folder_with("grey.jpg", &png_of(&image.into()));
    assert_eq!(load_image(&path, 2, 3).unwrap(), [77; 12]);
}

#[test]
fn impossible_shape_is_refused() {
    assert_eq!(
        load_image(Path::new("any.png"), 0, 2).unwrap_err().to_string(),
        "ImageShape::new: expected a size of 1 to 16384 pixels and 1 or 3 channels, \
         got size 0, 2 channels"
    );
}

proptest::proptest! {
    #[test]
    fn damaged_image_is_read_or_refused(at: proptest::sample::Index, value: u8, cut: bool) {
        use image::ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
        let image = DynamicImage::from(RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8, y as u8, 5])));
        for format in [Bmp, Gif, Jpeg, Png, WebP] {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            let mut bytes = bytes.into_inner();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if cut {
                bytes.truncate(at);
            }
            let shape = ImageShape::new(4, 3).unwrap();
            if let Ok(pixels) = decode_bytes(&bytes, shape) {
                proptest::prop_assert_eq!(pixels.len(), shape.byte_count());
            }
        }
    }
}
