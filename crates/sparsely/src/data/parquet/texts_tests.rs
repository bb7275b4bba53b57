use std::fs;
use std::sync::Arc;

use ::parquet::column::writer::ColumnWriter;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::*;

/// Writes row groups of texts; `None` is a row without one.
fn write(path: &Path, message: &str, groups: &[&[Option<&str>]]) {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let file = File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for texts in groups {
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            let values: Vec<ByteArray> = texts.iter().flatten().map(|t| (*t).into()).collect();
            let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    writer.write_batch(&values, Some(&levels), None).unwrap();
                }
                _ => unreachable!("columns of bytes"),
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const TEXT: &str = "message m { optional binary title (utf8); optional binary text (utf8); }";

fn texts(path: &Path, name: &str) -> Result<Vec<(usize, String)>> {
    let mut texts = Vec::new();
    read_texts(path, name, &mut |row, text| {
        texts.push((row, String::from_utf8(text.to_vec()).unwrap()));
        Ok(())
    })?;
    Ok(texts)
}

#[test]
fn texts_come_row_after_row_over_all_groups() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    write(&path, TEXT, &[&[Some("one"), Some("two")], &[Some("three")]]);
    assert_eq!(row_count(&path).unwrap(), 3);
    let expected = [(0, "one"), (1, "two"), (2, "three")].map(|(row, t)| (row, t.to_string()));
    assert_eq!(texts(&path, "").unwrap(), expected);
    assert_eq!(texts(&path, "title").unwrap(), expected);
}

#[test]
fn what_has_no_texts_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let told = |name: &str| {
        let error = texts(&path, name).unwrap_err().to_string();
        error.strip_prefix(&format!("`{}`: expected ", path.display())).unwrap().to_string()
    };
    write(&path, TEXT, &[&[Some("one"), None]]);
    assert_eq!(told(""), "a text in every row, got none in row 1");
    assert_eq!(told("body"), "a column of strings `body`, got columns title, text");
    let two = "message m { optional binary a; optional binary b; }";
    write(&path, two, &[&[Some("one")]]);
    assert_eq!(
        told(""),
        "a column of strings called `text` or `content` (or set data.text_column), got columns a, b"
    );
    fs::write(&path, "no Parquet").unwrap();
    assert!(told("").starts_with("a whole Parquet file, got "));
}

#[test]
fn rows_are_documents_and_whole_ones_are_held_out() {
    use crate::data::text::{Corpus, TextConfig};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let rows: Vec<String> = (0..40).map(|row| format!("text {row:02}")).collect();
    let rows: Vec<Option<&str>> = rows.iter().map(|row| Some(&**row)).collect();
    write(&path, TEXT, &[&rows[..25], &rows[25..]]);
    let config = TextConfig { source: path.to_str().unwrap().into(), ..TextConfig::default() };
    let corpus = Corpus::prepare(&config, None, &folder.path().join("run")).unwrap();
    // 5 % of 40 documents of 7 bytes each.
    let documents = [&corpus.train, &corpus.validation, &corpus.test].map(|t| t.counts().documents);
    assert_eq!(documents, [36, 2, 2]);
    assert_eq!(corpus.test.counts().bytes, 14);
}
