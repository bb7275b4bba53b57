use super::*;
use crate::data::text::{Counts, Streams};
use std::path::PathBuf;

fn config(source: &Path, tokenizer: TokenizerConfig) -> TextConfig {
    TextConfig { source: source.to_str().unwrap().into(), tokenizer, ..TextConfig::default() }
}

/// A folder with `texts` as files, and one for the run.
fn folders(texts: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (data, run) = (root.path().join("data"), root.path().join("run"));
    for (name, text) in texts {
        let path = data.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    (root, data, run)
}

fn all_tokens(file: &TokensFile) -> Vec<u32> {
    let mut tokens = Vec::new();
    file.append(0, file.len(), &mut tokens);
    tokens
}

const END: u32 = 256;

#[test]
fn documents_stand_between_ends_of_texts() {
    let texts: [(&str, &[u8]); 4] = [
        ("train/a.txt", b"ab"),
        ("train/b.txt", b"c d"),
        ("validation/v.txt", b"v"),
        ("test/t.md", b"t"),
    ];
    let (_root, data, run) = folders(&texts);
    let corpus = Corpus::prepare(&config(&data, TokenizerConfig::Bytes), None, &run).unwrap();
    let text = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    let expected = [&[END][..], &text("ab"), &[END], &text("c d"), &[END]].concat();
    assert_eq!(all_tokens(&corpus.train), expected);
    assert_eq!(all_tokens(&corpus.test), [&[END][..], &text("t"), &[END]].concat());
    let counts = Counts { tokens: 8, bytes: 5, words: Some(3), documents: 2 };
    assert_eq!(corpus.train.counts(), counts);
    let told = "data: 8 training, 3 validation, 3 test tokens of bytes (split as published)";
    assert_eq!(corpus.describe(), told);
    assert_eq!(
        Corpus::open(&config(&data, TokenizerConfig::Bytes), &run).unwrap().describe(),
        told
    );
}

#[test]
fn bytes_may_be_no_text_and_then_have_no_words() {
    let (_root, data, run) = folders(&[("x.bin", &[b'a', 0xff, b'b'].repeat(20))]);
    let path = data.join("x.bin");
    let corpus = Corpus::prepare(&config(&path, TokenizerConfig::Bytes), None, &run).unwrap();
    let Counts { bytes, words, .. } = corpus.train.counts();
    assert_eq!((bytes, words), (54, None));
    let error = Corpus::prepare(&config(&path, TokenizerConfig::Bpe { pieces: 257 }), None, &run);
    let expected = format!(
        "`{}`: expected text in UTF-8 (data.tokenizer.kind=bytes takes any bytes), got something else at \
         byte 1",
        path.display()
    );
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn the_last_part_of_one_text_is_held_out() {
    let lines: String = (0..100).map(|line| format!("line {line:03}\n")).collect();
    let (_root, data, run) = folders(&[("one.txt", lines.as_bytes())]);
    let path = data.join("one.txt");
    let corpus = Corpus::prepare(&config(&path, TokenizerConfig::Bytes), None, &run).unwrap();
    let lengths = TextSplit::ALL.map(|split| corpus.split(split).counts().bytes);
    assert_eq!(lengths, [810, 45, 45]);
    assert_eq!(corpus.describe().rsplit_once('(').unwrap().1, "held-out tail)");
}

#[test]
fn a_vocabulary_is_learned_from_the_training_text_alone() {
    let (train, test) = ("the theme of the thesis ".repeat(40), "zzzz zzzz ".repeat(40));
    let texts = [("train/a.txt", train.as_bytes()), ("test/t.txt", test.as_bytes())];
    let (_root, data, run) = folders(&texts);
    let config = config(&data, TokenizerConfig::Bpe { pieces: 262 });
    let corpus = Corpus::prepare(&config, None, &run).unwrap();
    let (train, test) = (corpus.train.counts(), corpus.test.counts());
    assert!(train.bytes > 2 * train.tokens, "{train:?}");
    assert!(test.tokens > test.bytes, "no piece of the test text is known: {test:?}");
    let again = Corpus::open(&config, &run).unwrap();
    assert_eq!(again.train.crc32(), corpus.train.crc32());
}

#[test]
fn damaged_tokens_are_one_line() {
    let (_root, data, run) = folders(&[("one.txt", &b"some text\n".repeat(50))]);
    let config = config(&data.join("one.txt"), TokenizerConfig::Bytes);
    Corpus::prepare(&config, None, &run).unwrap();
    let path = run.join(TOKENS_FOLDER).join("test.tokens");
    let whole = fs::read(&path).unwrap();
    let told = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = Corpus::open(&config, &run).unwrap_err().to_string();
        error.strip_prefix(&format!("`{}`: expected ", path.display())).unwrap().to_string()
    };
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    assert_eq!(told(&changed(80)), "a whole file of tokens, got tokens with another checksum");
    assert_eq!(told(&changed(20)), "a whole file of tokens, got a damaged header");
    assert_eq!(told(&whole[..whole.len() - 2]), "22 tokens, got 42 bytes of them");
    assert_eq!(told(b"short"), "a file of tokens, got 5 other bytes");
}

#[test]
fn rows_are_contiguous_and_blocks_follow_one_another() {
    // 14 bytes of training text and its two ends: tokens 0..16, so 15 that are followed by one.
    let (_root, data, run) = folders(&[("train/a.txt", b"abcdefghijklmn"), ("test/t.txt", b"t")]);
    let corpus = Corpus::prepare(&config(&data, TokenizerConfig::Bytes), None, &run);
    // Nothing is published to validate on: its share is cut off the end, where a line ends: nowhere.
    let corpus = corpus.unwrap();
    let tokens = all_tokens(&corpus.train);
    let streams = Streams::new(&corpus.train, 2, 3).unwrap();
    assert_eq!(streams.steps_per_epoch(), (tokens.len() as u64 - 1) / 2 / 3);
    let row = (tokens.len() - 1) / 2;
    for step in 0..streams.steps_per_epoch() {
        let block = streams.block_at(&corpus.train, step);
        let at = 3 * step as usize;
        let expected = [&tokens[at..at + 3], &tokens[row + at..row + at + 3]].concat();
        assert_eq!(block.inputs, expected);
        assert_eq!(block.targets[..3], tokens[at + 1..at + 4]);
        assert_eq!(block.is_first, step == 0);
    }
    let again = streams.block_at(&corpus.train, streams.steps_per_epoch());
    assert_eq!(again, streams.block_at(&corpus.train, 0));
    let error = Streams::new(&corpus.train, 4, 100).unwrap_err().to_string();
    assert!(
        error.contains("training text: expected at least 401 tokens, 4 rows of a block of 100"),
        "{error}"
    );
}
