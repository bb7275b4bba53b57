//! MessagePack from strangers: a cursor that never believes a length.
//!
//! The markers are `rmp`'s to know. Every length that it reads is held against the bytes that are
//! left before it is used, nothing is copied, and nothing recurses: who reads says what comes next.

use rmp::Marker;
use rmp::decode::{
    RmpRead, read_array_len, read_bool, read_ext_meta, read_int, read_map_len, read_nil,
};

/// What does not fit: `(expected, got)`.
pub(super) type Misfit = (String, String);
pub(super) type Fit<T> = Result<T, Misfit>;

/// Bytes of which the first have been read.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

/// An extension: its type and its bytes.
pub(super) struct Ext<'a> {
    pub(super) code: i8,
    pub(super) bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    /// Number of entries of a map that comes next; each has at least two bytes.
    pub(super) fn map(&mut self, what: &str) -> Fit<usize> {
        let length = self.read(what, |rest| read_map_len(rest).ok())?;
        self.holds(what, length, 2)
    }

    /// Number of entries of an array that comes next; each has at least one byte.
    pub(super) fn array(&mut self, what: &str) -> Fit<usize> {
        let length = self.read(what, |rest| read_array_len(rest).ok())?;
        self.holds(what, length, 1)
    }

    /// Exactly `length` entries of an array.
    pub(super) fn array_of(&mut self, length: usize, what: &str) -> Fit<()> {
        match self.array(what)? {
            got if got == length => Ok(()),
            got => Err((format!("{what} ({length} entries)"), got.to_string())),
        }
    }

    /// An integer from 0.
    pub(super) fn number(&mut self, what: &str) -> Fit<usize> {
        self.read(what, |rest| read_int(rest).ok())
    }

    pub(super) fn boolean(&mut self, what: &str) -> Fit<bool> {
        self.read(what, |rest| read_bool(rest).ok())
    }

    /// Whether nothing (`nil`) came next, which is then passed.
    pub(super) fn skip_nil(&mut self) -> bool {
        let mut rest = self.rest;
        let is_nil = read_nil(&mut rest).is_ok();
        if is_nil {
            self.rest = rest;
        }
        is_nil
    }

    /// A text; older writers mark texts as bytes.
    pub(super) fn text(&mut self, what: &str) -> Fit<&'a str> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(bytes)
            .map_err(|_| (what.to_string(), "a text that is not UTF-8".into()))
    }

    /// The content of a byte string or text.
    pub(super) fn bytes(&mut self, what: &str) -> Fit<&'a [u8]> {
        let length = self.read(what, byte_length)?;
        self.take(what, length)
    }

    pub(super) fn ext(&mut self, what: &str) -> Fit<Ext<'a>> {
        let meta = self.read(what, |rest| read_ext_meta(rest).ok())?;
        Ok(Ext { code: meta.typeid, bytes: self.take(what, meta.size)? })
    }

    /// Whether a map comes next.
    pub(super) fn is_map(&self) -> bool {
        read_map_len(&mut &*self.rest).is_ok()
    }

    /// Nothing may come after `what`.
    pub(super) fn end(&self, what: &str) -> Fit<()> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err((format!("nothing after {what}"), format!("{more} more bytes"))),
        }
    }

    fn read<T>(&mut self, what: &str, read: impl FnOnce(&mut &'a [u8]) -> Option<T>) -> Fit<T> {
        let mut rest = self.rest;
        let value = read(&mut rest).ok_or_else(|| (what.to_string(), self.next()))?;
        self.rest = rest;
        Ok(value)
    }

    fn take(&mut self, what: &str, length: u32) -> Fit<&'a [u8]> {
        let split = self.rest.split_at_checked(length as usize).ok_or_else(|| {
            (format!("{what} of {length} bytes"), format!("{} bytes", self.rest.len()))
        })?;
        self.rest = split.1;
        Ok(split.0)
    }

    fn holds(&self, what: &str, length: u32, bytes_each: usize) -> Fit<usize> {
        let length = length as usize;
        if length > self.rest.len() / bytes_each {
            let got = format!("{} bytes", self.rest.len());
            return Err((format!("{what} with {length} entries"), got));
        }
        Ok(length)
    }

    /// What comes next, for people.
    fn next(&self) -> String {
        match self.rest.first() {
            None => "the end".into(),
            Some(byte) => match Marker::from_u8(*byte) {
                Marker::FixPos(number) => format!("the number {number}"),
                marker => format!("{marker:?}"),
            },
        }
    }
}

fn byte_length(rest: &mut &[u8]) -> Option<u32> {
    Some(match rmp::decode::read_marker(rest).ok()? {
        Marker::FixStr(length) => length.into(),
        Marker::Str8 | Marker::Bin8 => rest.read_data_u8().ok()?.into(),
        Marker::Str16 | Marker::Bin16 => rest.read_data_u16().ok()?.into(),
        Marker::Str32 | Marker::Bin32 => rest.read_data_u32().ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(fit: Fit<T>) -> (String, String) {
        fit.err().unwrap()
    }

    fn told(expected: &str, got: &str) -> (String, String) {
        (expected.into(), got.into())
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        let four_billion_entries = [0xdd, 0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(
            said(Cursor::new(&four_billion_entries).array("a list")),
            told("a list with 4294967295 entries", "1 bytes")
        );
        let two_pairs = [0x82, 0xa1, b'a', 0xc0];
        assert_eq!(
            said(Cursor::new(&two_pairs).map("a map")),
            told("a map with 2 entries", "3 bytes")
        );
        let long_text = [0xd9, 200, b'a'];
        assert_eq!(
            said(Cursor::new(&long_text).text("a name")),
            told("a name of 200 bytes", "1 bytes")
        );
        let long_ext = [0xc7, 9, 1, 0];
        assert_eq!(
            said(Cursor::new(&long_ext).ext("an array")),
            told("an array of 9 bytes", "1 bytes")
        );
    }

    #[test]
    fn what_comes_instead_is_told() {
        assert_eq!(said(Cursor::new(&[]).map("a map")), told("a map", "the end"));
        assert_eq!(said(Cursor::new(&[7]).map("a map")), told("a map", "the number 7"));
        assert_eq!(said(Cursor::new(&[0xff]).number("a count")), told("a count", "FixNeg(-1)"));
        let not_utf8 = [0xa1, 0xff];
        assert_eq!(
            said(Cursor::new(&not_utf8).text("a name")),
            told("a name", "a text that is not UTF-8")
        );
        assert_eq!(said(Cursor::new(&[0, 0]).end("it")), told("nothing after it", "2 more bytes"));
    }

    #[test]
    fn values_are_read_one_after_the_other() {
        let mut cursor = Cursor::new(&[0x93, 0xcc, 200, 0xc0, 0xc4, 1, b'x', 0xd4, 6, 0x90]);
        cursor.array_of(3, "all").unwrap();
        assert_eq!(cursor.number("a number").unwrap(), 200);
        assert!(cursor.skip_nil() && !cursor.skip_nil());
        assert_eq!(cursor.text("a text").unwrap(), "x");
        let ext = cursor.ext("an ext").unwrap();
        assert_eq!((ext.code, ext.bytes), (6, &[0x90][..]));
        cursor.end("it").unwrap();
    }
}
