//! Columns that a person can read down.

/// Rows of cells as lines: the first column to the left, the others to the right.
pub(crate) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

/// Prints them.
pub(crate) fn say_aligned(rows: &[Vec<String>]) {
    for line in aligned(rows) {
        say!("{line}");
    }
}

/// Cells from anything that is text.
pub(crate) fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_string).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_column_is_to_the_left_and_the_others_to_the_right() {
        let rows = [cells(["a", "×××"]), cells(["bcd", "1"]), cells(["e"])];
        assert_eq!(aligned(&rows), ["a    ×××", "bcd    1", "e"]);
    }
}
