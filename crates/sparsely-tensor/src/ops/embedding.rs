//! Rows of a table by index.

use crate::kernel::elementwise::add_slice;
use crate::slab::Param;
use crate::tape::{Tape, Var};
use crate::{Error, Result, Shape};
use rayon::prelude::*;

impl<'p> Tape<'p> {
    /// `y_t = table[index_t]`: table `[V, D]` → `[T, D]`. The gradient of a row is the sum over its
    /// occurrences, in order.
    ///
    /// # Errors
    /// If the table is not of two axes, or an index is not below V.
    pub fn embedding<'t>(&'t self, table: &Param, indices: &[u32]) -> Result<Var<'t>> {
        let [v, d] = table.shape().dims("embedding")?;
        if let Some(index) = indices.iter().find(|index| **index as usize >= v) {
            let expected = format!("indices below {v}");
            return Err(Error::shape("embedding", expected, format!("{index}")));
        }
        let shape = Shape::from([indices.len(), d]);
        let rows = self.params().view(table);
        let mut y = self.take(indices.len() * d);
        y.as_f32_mut()
            .par_chunks_mut(d)
            .zip(indices)
            .for_each(|(y, index)| y.copy_from_slice(&rows[*index as usize * d..][..d]));
        let out = self.grad_id();
        let (table, indices) = (*table, indices.to_vec());
        self.record(out, move |backward, dy| {
            let mut places: Vec<u32> = (0..indices.len() as u32).collect();
            places.sort_by_key(|place| indices[*place as usize]);
            let dy = dy.as_f32();
            let d_rows = backward.param_grad(&table);
            d_rows.par_chunks_mut(d).enumerate().for_each(|(index, d_row)| {
                let at = |place: &u32| indices[*place as usize] as usize;
                let first = places.partition_point(|place| at(place) < index);
                let own = places[first..].iter().take_while(|place| at(place) == index);
                own.for_each(|place| add_slice(d_row, &dy[*place as usize * d..][..d]));
            });
        });
        Ok(self.var(shape, y, out))
    }
}
