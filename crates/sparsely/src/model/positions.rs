//! Learned positions for images of another size.

/// The positions `[T, D]` of one image size at another: `[target_tokens, D]`.
///
/// Tokens are a square grid, with or without a class token before it. The grid is resized
/// linearly with aligned corners (the corner patches keep their vectors); the class token's row is
/// kept, or left out where `target_tokens` has no place for it. (arXiv 2010.11929, section 3.2;
/// google-research/vmoe, `vit_zoom`.)
///
/// `None` if one of the numbers of tokens is no such grid, or a class token's row is asked for that
/// is not there.
pub fn resize_positions(table_td: &[f32], d: usize, target_tokens: usize) -> Option<Vec<f32>> {
    let (from, has_cls) = token_grid(table_td.len().checked_div(d)?)?;
    let (to, wants_cls) = token_grid(target_tokens)?;
    if wants_cls && !has_cls {
        return None;
    }
    let (cls, grid_td) = table_td.split_at(if has_cls { d } else { 0 });
    let mut resized = Vec::with_capacity(target_tokens * d);
    if wants_cls {
        resized.extend_from_slice(cls);
    }
    for (y, x) in (0..to * to).map(|token| (token / to, token % to)) {
        let ((top, bottom, down), (left, right, across)) = (place(y, to, from), place(x, to, from));
        resized.extend((0..d).map(|i| {
            let at = |y: usize, x: usize| f64::from(grid_td[(y * from + x) * d + i]);
            let row = |y: usize| at(y, left) * (1.0 - across) + at(y, right) * across;
            (row(top) * (1.0 - down) + row(bottom) * down) as f32
        }));
    }
    Some(resized)
}

/// Side of the grid of so many tokens, and whether a class token comes before it.
pub fn token_grid(tokens: usize) -> Option<(usize, bool)> {
    let is_side = |side: &usize| *side > 0;
    let side_of = |patches: usize| Some(patches.isqrt()).filter(|side| side * side == patches);
    let whole = side_of(tokens).filter(is_side).map(|side| (side, false));
    whole.or_else(|| side_of(tokens.checked_sub(1)?).filter(is_side).map(|side| (side, true)))
}

/// The two old places that a new one lies between, and how far it is from the first.
fn place(new: usize, to: usize, from: usize) -> (usize, usize, f64) {
    let at = if to > 1 { new as f64 * (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
    let before = (at.floor() as usize).min(from - 1);
    (before, (before + 1).min(from - 1), at - before as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_two_by_two_becomes_three_by_three_by_halves() {
        // Corners stay, and what lies between two or four of them is their mean.
        let resized = resize_positions(&[9.0, 0.0, 2.0, 4.0, 6.0], 1, 10).unwrap();
        assert_eq!(resized, [9.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0]);
        let same = resize_positions(&resized, 1, 10).unwrap();
        assert_eq!(same, resized);
        assert_eq!(resize_positions(&resized, 1, 5).unwrap(), [9.0, 0.0, 2.0, 4.0, 6.0]);
    }

    #[test]
    fn one_patch_stands_for_all_and_all_become_the_first() {
        assert_eq!(resize_positions(&[1.0, 2.0], 2, 4).unwrap(), [1.0, 2.0].repeat(4));
        assert_eq!(resize_positions(&[1.0, 2.0, 3.0, 4.0], 1, 1).unwrap(), [1.0]);
    }

    #[test]
    fn the_class_token_may_be_left_out_but_not_made_up() {
        assert_eq!(
            resize_positions(&[9.0, 1.0, 2.0, 3.0, 4.0], 1, 4).unwrap(),
            [1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(resize_positions(&[1.0, 2.0, 3.0, 4.0], 1, 5), None);
        assert_eq!(resize_positions(&[1.0; 7], 1, 4), None);
        assert_eq!(resize_positions(&[], 1, 4), None);
        assert_eq!(resize_positions(&[1.0], 0, 4), None);
    }
}
