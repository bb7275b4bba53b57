use std::fs;
use std::io::Cursor;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArrayType, Int64Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use image::{GrayImage, Luma};
use tempfile::TempDir;

use super::*;
use crate::data::Dataset;
use crate::data::source::entries;

const HUB: &str = "message hub {
    optional group img { optional binary bytes; optional binary path (utf8); }
    optional int64 coarse_label;
    optional int64 fine_label;
}";

/// What to write; each row has an image of its own grey value.
struct Table<'a> {
    message: &'a str,
    labels: &'a [i64],
    /// Of the column `coarse_label`, if not the same.
    coarse: Option<&'a [i64]>,
    metadata: Option<&'a str>,
    compression: Compression,
}

impl Default for Table<'_> {
    fn default() -> Self {
        Table {
            message: HUB,
            labels: &[2, 0],
            coarse: None,
            metadata: None,
            compression: Compression::SNAPPY,
        }
    }
}

fn png(value: usize) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = GrayImage::from_pixel(2, 2, Luma([value as u8]));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

impl Table<'_> {
    fn write(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let entry = |value: &str| KeyValue::new("huggingface".into(), value.to_string());
        let properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_key_value_metadata(self.metadata.map(|value| vec![entry(value)]))
            .build();
        let schema = Arc::new(parse_message_type(self.message).unwrap());
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            self.write_column(&mut column);
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
    }

    /// Bytes are images wherever they stand; integers are the labels.
    fn write_column(&self, column: &mut ::parquet::file::writer::SerializedColumnWriter<'_>) {
        use ::parquet::column::writer::ColumnWriter;
        let rows = self.labels.len();
        match column.untyped() {
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let images: Vec<ByteArray> = (0..rows).map(|row| png(row).into()).collect();
                let level = writer.get_descriptor().max_def_level();
                writer.write_batch(&images, Some(&vec![level; rows]), None).unwrap();
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let level = writer.get_descriptor().max_def_level();
                let is_coarse = writer.get_descriptor().name() == "coarse_label";
                let labels = self.coarse.filter(|_| is_coarse).unwrap_or(self.labels);
                writer.write_batch(labels, Some(&vec![level; rows]), None).unwrap();
            }
            _ => unreachable!("tables of bytes and 64-bit integers"),
        }
    }
}

fn open(root: &TempDir, config: &DataConfig) -> Result<Published> {
    let shards = files(root.path(), &entries(root.path())?)?.expect("Parquet files");
    read(root.path(), &shards, config)
}

/// The message, without the folder, of opening a folder with `table` as its training file.
fn message(table: &Table<'_>, config: &DataConfig) -> String {
    let root = tempfile::tempdir().unwrap();
    table.write(&root.path().join("train.parquet"));
    let message = open(&root, config).unwrap_err().to_string();
    message.replace(&format!("{}/", root.path().display()), "")
}

fn refusal(table: &Table<'_>) -> String {
    message(table, &DataConfig::default())
}

#[test]
fn classes_are_grouped_by_another_label() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train.parquet");
    let source = root.path().to_str().unwrap().to_string();
    let config = DataConfig { source, label_column: "fine_label".into(), ..DataConfig::default() };
    let groups = || crate::data::label_groups(&config, "coarse_label");
    let labels: &[i64] = &[2, 0, 1, 3, 2];
    Table { labels, coarse: Some(&[1, 0, 1, 0, 1]), ..Table::default() }.write(&path);
    let classes: Vec<_> = groups().unwrap().into_iter().map(|group| group.1).collect();
    assert_eq!(classes, [["0", "3"], ["1", "2"]]);
    assert_eq!(groups().unwrap()[1].0, "1");
    Table { labels, coarse: Some(&[1, 0, 1, 0, 0]), ..Table::default() }.write(&path);
    let start = "super-classes of labels: expected a label `coarse_label` that is the same for all images of a \
                 class, got ";
    assert_eq!(groups().unwrap_err().to_string(), format!("{start}1 and 0 for images of `2`"));
    Table { labels: &[0, 2], ..Table::default() }.write(&path);
    assert_eq!(groups().unwrap_err().to_string(), format!("{start}no training image of `1`"));
    let digits = crate::data::label_groups(&DataConfig::default(), "coarse_label");
    assert_eq!(
        digits.unwrap_err().to_string(),
        format!("{start}`digits`, whose images have one label")
    );
}

#[test]
fn hub_layout_is_read() {
    let root = tempfile::tempdir().unwrap();
    let names = r#"{"info":{"features":{"fine_label":{"names":["a","b","c"]}}}}"#;
    let table = Table { metadata: Some(names), ..Table::default() };
    table.write(&root.path().join("data/train-00000-of-00002.parquet"));
    Table { labels: &[1], ..Table::default() }
        .write(&root.path().join("data/train-00001-of-00002.parquet"));
    Table { labels: &[1], ..Table::default() }.write(&root.path().join("data/test-x.parquet"));
    let data = open(&root, &DataConfig::default()).unwrap();
    assert_eq!(data.class_names, ["a", "b", "c"]);
    assert_eq!(data.train.labels, [2, 0, 1]);
    assert_eq!(data.test.unwrap().labels, [1]);
    assert!(data.validation.is_none());
}

#[test]
fn pixels_come_out_of_every_compression() {
    use Compression::{BROTLI, GZIP, LZ4_RAW, SNAPPY, UNCOMPRESSED};
    for compression in
        [UNCOMPRESSED, SNAPPY, GZIP(Default::default()), BROTLI(Default::default()), LZ4_RAW]
    {
        let root = tempfile::tempdir().unwrap();
        for split in ["train", "validation", "test"] {
            let table = Table { labels: &[0, 1, 2], compression, ..Table::default() };
            table.write(&root.path().join(format!("{split}.parquet")));
        }
        let source = root.path().to_str().unwrap().to_string();
        let config = DataConfig { source, ..DataConfig::default() };
        let data = Dataset::open(&config, None, 0).unwrap();
        assert_eq!(data.class_names, ["0", "1", "2"]);
        assert_eq!(data.train.pixels(2).unwrap()[..], [2; 4]);
    }
}

#[test]
fn columns_can_be_chosen() {
    let root = tempfile::tempdir().unwrap();
    let message = "message m { required binary photo; required binary mask; required int64 kind; }";
    Table { message, ..Table::default() }.write(&root.path().join("train.parquet"));
    let config = DataConfig {
        image_column: "photo".into(),
        label_column: "kind".into(),
        ..DataConfig::default()
    };
    assert_eq!(open(&root, &config).unwrap().train.labels, [2, 0]);
}

#[test]
fn table_without_labels_is_refused() {
    let message = "message m { required group img { required binary bytes; } }";
    assert_eq!(
        refusal(&Table { message, ..Table::default() }),
        "`train.parquet`: expected an integer column `label`, `fine_label` or `labels`, \
         got no integer column"
    );
    let message = "message m { required group img { required binary bytes; }
        required int64 kind; required int64 age; }";
    assert_eq!(
        refusal(&Table { message, ..Table::default() }),
        "`train.parquet`: expected an integer column `label`, `fine_label` or `labels`, \
         got integer columns kind, age: name one as the label"
    );
}

#[test]
fn table_without_or_with_two_columns_of_images_is_refused() {
    let message = "message m { required binary text; required int64 label; }";
    assert_eq!(
        refusal(&Table { message, ..Table::default() }),
        "`train.parquet`: expected a column of images (one with a `bytes` child), \
         got columns text, label"
    );
    let message = "message m { required group a { required binary bytes; }
        required group b { required binary bytes; } required int64 label; }";
    assert_eq!(
        refusal(&Table { message, ..Table::default() }),
        "`train.parquet`: expected one column of images, got a, b: set `image_column`"
    );
}

#[test]
fn labels_out_of_range_are_refused() {
    assert_eq!(
        refusal(&Table { labels: &[0, -1], ..Table::default() }),
        "`train.parquet`: expected labels from 0 to 99999, got -1 in row 1"
    );
    let names = r#"{"info":{"features":{"fine_label":{"names":["a","b"]}}}}"#;
    assert_eq!(
        refusal(&Table { labels: &[1, 2], metadata: Some(names), ..Table::default() }),
        "`train.parquet`: expected labels from 0 to 1, got 2 in row 1"
    );
}

#[test]
fn table_without_rows_is_refused() {
    assert_eq!(
        refusal(&Table { labels: &[], ..Table::default() }),
        "`train.parquet`: expected at least one row, got none"
    );
}

#[test]
fn missing_value_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train.parquet");
    let schema = Arc::new(
        parse_message_type("message m { required binary img; optional int64 label; }").unwrap(),
    );
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let images = [png(0).into(), png(1).into()];
    column.typed::<ByteArrayType>().write_batch(&images, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[3], Some(&[1, 0]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let config = DataConfig { image_column: "img".into(), ..DataConfig::default() };
    let expected =
        format!("`{}`: expected a value in every row, got none in row 1", path.display());
    assert_eq!(open(&root, &config).err().unwrap().to_string(), expected);
}

#[test]
fn zstd_is_refused() {
    // Written by pyarrow: nothing in pure Rust writes such a file.
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train.parquet");
    fs::write(&path, include_bytes!("../../../tests/fixtures/zstd.parquet")).unwrap();
    let expected = format!(
        "`{}`: expected compression by snappy, gzip, brotli or lz4, or none, got zstd",
        path.display()
    );
    assert_eq!(open(&root, &DataConfig::default()).unwrap_err().to_string(), expected);
}

#[test]
fn missing_shard_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train-00000-of-00003.parquet");
    Table::default().write(&path);
    let expected =
        format!("`{}`: expected one of 3 files of its split, got 1 of them", path.display());
    let message = open(&root, &DataConfig::default()).unwrap_err().to_string();
    assert_eq!(message, expected);
}

#[test]
fn file_that_is_not_parquet_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train.parquet");
    fs::write(&path, "not a table").unwrap();
    let message = open(&root, &DataConfig::default()).unwrap_err().to_string();
    let start = format!("`{}`: expected a whole Parquet file, got ", path.display());
    assert!(message.starts_with(&start), "{message}");
}

#[test]
fn broken_image_is_named_by_its_row() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("train.parquet");
    let message =
        "message m { required group img { required binary bytes; } required int64 label; }";
    Table { message, ..Table::default() }.write(&path);
    let rows = open(&root, &DataConfig::default()).unwrap().train.images;
    let StoredImage::Row { file, .. } = &rows[1] else { unreachable!() };
    let text = StoredImage::Row { file: Arc::clone(file), row: 1, bytes: "text".into() };
    assert_eq!(
        text.header().unwrap_err().to_string(),
        format!(
            "`{}`: expected a PNG, JPEG, BMP, GIF or WebP image in row 1, got none of these",
            path.display()
        )
    );
}

proptest::proptest! {
    #[test]
    fn damaged_file_is_read_or_refused(at: proptest::sample::Index, value: u8) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("train.parquet");
        Table::default().write(&path);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        fs::write(&path, bytes).unwrap();
        let _ = open(&root, &DataConfig::default());
    }
}
