//! Routers before and after renormalisation.

use super::case::{are_committed, folder};
use super::check;
use crate::agreement::Agreement;
use crate::case::named;
use sparsely::checkpoint::Arrays;
use sparsely::nn::{Renormalised, renormalise};

pub(crate) fn compare(agreement: &mut Agreement) {
    let files =
        [("renorm_rows", Renormalised::OwnStd), ("renorm_keep_std_dim1", Renormalised::CommonStd)];
    for (name, keeps) in files {
        let Some(arrays) = named::<f32>(&folder(), name) else {
            agreement.require(!are_committed(), || format!("no {name}"));
            continue;
        };
        let arrays: Arrays = arrays;
        let (before, after) = (&arrays["before"], &arrays["after"]);
        let mut rows = before.values.clone();
        renormalise(&mut rows, before.shape[1], keeps);
        check(agreement, (name, 1e-6), &rows, &after.values);
    }
}
