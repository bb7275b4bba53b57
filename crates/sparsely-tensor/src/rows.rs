//! Values that grow from tape to tape and are read without being copied: keys and values of tokens so far.

use crate::buffer::Buffer;
use crate::tape::{Tape, Var};
use crate::{Error, Result, Shape};
use std::sync::Arc;

/// Values that outlive a tape, in the order in which they were appended.
#[derive(Default)]
pub struct Rows {
    values: Option<Arc<Buffer>>,
}

impl Rows {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        self.values.as_ref().map_or(&[], |values| values.as_f32())
    }

    /// Appends `new`. Values on a tape that still exists stay what they are: they are copied then.
    pub fn append(&mut self, tape: &Tape<'_>, new: &[f32]) {
        let mut own = self.own(tape);
        own.append(new);
        self.values = Some(Arc::new(own));
    }

    /// Forgets the first `count` values, or all.
    pub fn forget(&mut self, tape: &Tape<'_>, count: usize) {
        let mut own = self.own(tape);
        own.forget(count);
        self.values = Some(Arc::new(own));
    }

    /// The values in memory that nobody else reads.
    fn own(&mut self, tape: &Tape<'_>) -> Buffer {
        match self.values.take().map(Arc::try_unwrap) {
            Some(Ok(own)) => own,
            Some(Err(shared)) => tape.pool().copy_of(shared.as_f32()),
            None => tape.pool().copy_of(&[]),
        }
    }
}

impl<'p> Tape<'p> {
    /// A value without gradient that is `rows`, not copied.
    ///
    /// # Errors
    /// If the number of values is not the shape's.
    pub fn rows(&self, shape: impl Into<Shape>, rows: &Rows) -> Result<Var<'_>> {
        let shape = shape.into();
        match &rows.values {
            Some(values) if values.len() == shape.len() => Ok(self.shared(shape, values)),
            _ => {
                let expected = format!("{} values for shape {shape:?}", shape.len());
                Err(Error::shape("rows", expected, format!("{}", rows.len())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, Pool, Slab};

    #[test]
    fn what_a_tape_reads_stays_while_rows_grow_and_forget() {
        let (params, pool) = (Slab::zeros(Arc::new(Layout::default())), Pool::new());
        let tape = Tape::inference(&params, &pool);
        let (mut rows, mut want) = (Rows::default(), Vec::new());
        let mut seen = Vec::new();
        for step in 0..40 {
            let new: Vec<f32> = (0..7).map(|i| (10 * step + i) as f32).collect();
            rows.append(&tape, &new);
            want.extend(new);
            if step % 9 == 8 {
                rows.forget(&tape, 21);
                want.drain(..21);
            }
            if step % 3 == 0 {
                seen.push((tape.rows([want.len()], &rows).unwrap(), want.clone()));
            }
            assert_eq!(rows.as_slice(), want);
        }
        assert!(seen.iter().all(|(var, want)| var.values() == want));
        assert!(tape.rows([1], &rows).is_err());
    }

    #[test]
    fn rows_that_nobody_reads_are_not_copied() {
        let (params, pool) = (Slab::zeros(Arc::new(Layout::default())), Pool::new());
        let mut rows = Rows::default();
        rows.append(&Tape::inference(&params, &pool), &[1.0; 100]);
        let mut moves = 0;
        for _ in 0..1000 {
            let before = rows.as_slice().as_ptr();
            rows.append(&Tape::inference(&params, &pool), &[2.0; 10]);
            moves += usize::from(rows.as_slice().as_ptr() != before);
        }
        // Each move doubles the room: 100 to 10 100 takes seven.
        assert!(moves <= 8, "{moves} moves");
        assert_eq!(pool.used_bytes(), 4 * rows.len());
        drop(rows);
        assert_eq!(pool.used_bytes(), 0);
    }
}
