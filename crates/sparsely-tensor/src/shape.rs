//! Extents of a tensor, of at most four axes, row-major.

use crate::{Error, Result};

/// Extents of a row-major tensor with one to four axes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    extents: [usize; 4],
    rank: usize,
}

impl Shape {
    /// The extents as an array: destructure at the door, so that a reader sees the axes.
    ///
    /// ```
    /// use sparsely_tensor::Shape;
    /// let [t, d] = Shape::from([6, 4]).dims("example").unwrap();
    /// assert_eq!((t, d), (6, 4));
    /// ```
    ///
    /// # Errors
    /// If the number of axes is not `N`.
    pub fn dims<const N: usize>(&self, op: &'static str) -> Result<[usize; N]> {
        self.axes().try_into().map_err(|_| {
            Error::shape(op, format!("a tensor of {N} axes"), format!("shape {self:?}"))
        })
    }

    /// The extents as a slice.
    pub fn axes(&self) -> &[usize] {
        &self.extents[..self.rank]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.axes().iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last extent: the length of a row.
    pub fn width(&self) -> usize {
        self.extents[self.rank - 1]
    }

    /// Product of all extents but the last: the number of rows.
    pub fn rows(&self) -> usize {
        self.extents[..self.rank - 1].iter().product()
    }

    /// The same rows with another width.
    pub fn with_width(mut self, width: usize) -> Shape {
        self.extents[self.rank - 1] = width;
        self
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(axes: [usize; N]) -> Shape {
        assert!((1..=4).contains(&N), "a shape has one to four axes");
        let mut extents = [1; 4];
        extents[..N].copy_from_slice(&axes);
        Shape { extents, rank: N }
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.axes().fmt(f)
    }
}
