//! Rows to columns.

/// `[S, E]` → `[E, S]`, where `e` is the width of the rows.
pub(crate) fn transpose(x_se: &[f32], e: usize, x_es: &mut [f32]) {
    let s = x_se.len() / e;
    for (row, x_e) in x_se.chunks(e).enumerate() {
        for (column, x) in x_e.iter().enumerate() {
            x_es[column * s + row] = *x;
        }
    }
}
