//! What a source of text is, and reading one of its splits.

use super::TextConfig;
use super::document::Document;
use super::novels::{NAME, NOVELS};
use super::piece::Sink;
use super::split::{Rule, TextSplit};
use crate::data::parquet::{self, row_count};
use crate::data::source::{data_set_name, entries, file_name};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Endings of text files in a folder; a file that is named itself may have any.
const ENDINGS: [&str; 3] = ["txt", "text", "md"];

/// Documents and who they are for.
pub(super) struct Source {
    /// `austen`, or the file's or folder's name.
    pub(super) name: String,
    /// With the split that they were published in, if they were.
    parts: Vec<(Document, Option<TextSplit>)>,
    rule: Rule,
    is_published: bool,
}

impl Source {
    /// Looks at what `config` names, without reading it.
    pub(super) fn open(config: &TextConfig) -> Result<Source> {
        let path = Path::new(&config.source);
        let (name, parts) = if config.source == NAME {
            let novels = NOVELS.map(|novel| (Document::Novel(novel), Some(novel.split)));
            (NAME.to_string(), novels.to_vec())
        } else if path.is_dir() {
            (data_set_name(path), folder(path, config)?)
        } else {
            (file_name(path), vec![(file(path.to_path_buf(), config)?, None)])
        };
        Ok(Source::new(name, parts, config))
    }

    /// Documents published as training text are split further where validation or test is missing.
    fn new(
        name: String,
        mut parts: Vec<(Document, Option<TextSplit>)>,
        config: &TextConfig,
    ) -> Source {
        let is_published = parts.iter().any(|(_, split)| split.is_some());
        let mut config = config.clone();
        if is_published {
            let has = |wanted| parts.iter().any(|(_, split)| *split == Some(wanted));
            let (has_validation, has_test) = (has(TextSplit::Validation), has(TextSplit::Test));
            if has_validation {
                config.validation_fraction = 0.0;
            }
            if has_test {
                config.test_fraction = 0.0;
            }
            if !(has_validation && has_test) {
                let train = parts.iter_mut().filter(|(_, split)| *split == Some(TextSplit::Train));
                train.for_each(|(_, split)| *split = None);
            }
        }
        let open = parts.iter().filter(|(_, split)| split.is_none());
        let rule = Rule::of(&config, open.map(|(document, _)| document.count()).sum());
        Source { name, parts, rule, is_published }
    }

    /// Hands on all text of a split.
    pub(super) fn read(&self, wanted: TextSplit, sink: &mut Sink<'_>) -> Result<()> {
        let mut index = 0;
        for (document, published) in &self.parts {
            match published {
                Some(split) if *split == wanted => document.read(0, (None, wanted), sink)?,
                Some(_) => {}
                None => {
                    document.read(index, (Some(&self.rule), wanted), sink)?;
                    index += document.count();
                }
            }
        }
        Ok(())
    }

    /// How the splits came about, for people.
    pub(super) fn rule(&self) -> &'static str {
        let is_split_further = self.parts.iter().any(|(_, split)| split.is_none());
        match (self.is_published, is_split_further) {
            (true, false) => "split as published",
            (true, true) => "split as published, what was missing held out of training",
            (false, _) => self.rule.describe(),
        }
    }
}

fn file(path: PathBuf, config: &TextConfig) -> Result<Document> {
    if path.extension().is_some_and(|ending| ending == "parquet") {
        let count = row_count(&path)?;
        return Ok(Document::Rows { path, column: config.text_column.clone(), count });
    }
    match path.metadata().map_err(Error::io("read", &path))?.len() {
        0 => Err(Error::format(&path, "a text", "an empty file")),
        _ => Ok(Document::File(path)),
    }
}

/// Parquet files, or text files below `train`, `validation` and `test` or anywhere.
fn folder(root: &Path, config: &TextConfig) -> Result<Vec<(Document, Option<TextSplit>)>> {
    let root_entries = entries(root)?;
    if let Some(shards) = parquet::files(root, &root_entries)? {
        let splits = [shards.train, shards.validation, shards.test];
        let documents = splits
            .into_iter()
            .zip(TextSplit::ALL)
            .flat_map(|(files, split)| files.into_iter().map(move |path| (path, Some(split))));
        return documents.map(|(path, split)| Ok((file(path, config)?, split))).collect();
    }
    let mut documents = Vec::new();
    gather(root, None, &mut documents)?;
    if documents.is_empty() {
        let expected = "text files (*.txt, *.text, *.md) or Parquet files (*.parquet)";
        let got = match root_entries.len() {
            0 => "an empty folder".into(),
            count => format!("{count} other files or empty ones"),
        };
        return Err(Error::format(root, expected, got));
    }
    let has_train = documents.iter().any(|(_, split)| *split == Some(TextSplit::Train));
    if !has_train {
        // Folders that only happen to be called `test`.
        documents.iter_mut().for_each(|(_, split)| *split = None);
    } else {
        documents.retain(|(_, split)| split.is_some());
    }
    Ok(documents)
}

/// Text files below `folder`, sorted; empty ones are left out.
fn gather(
    folder: &Path,
    split: Option<TextSplit>,
    documents: &mut Vec<(Document, Option<TextSplit>)>,
) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            let named = match file_name(&path).as_str() {
                "train" => Some(TextSplit::Train),
                "validation" | "valid" | "val" => Some(TextSplit::Validation),
                "test" => Some(TextSplit::Test),
                _ => None,
            };
            gather(&path, split.or(named), documents)?;
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|e| ending == *e)) {
            let length = path.metadata().map_err(Error::io("read", &path))?.len();
            if length > 0 {
                documents.push((Document::File(path), split));
            }
        }
    }
    Ok(())
}
