//! Each broken file, and all that is said of it.

use std::collections::BTreeSet;

const TOLD: &[(&str, &str)] = &[];

#[test]
fn every_broken_file_is_told_in_one_line() {
    let mut untold: BTreeSet<String> = crate::make::files().into_keys().collect();
    untold.retain(|name| !name.starts_with("right.") && !name.contains(".data-"));
    let mut wrong = String::new();
    for name in untold.clone() {
        let path = crate::corpus().join(&name);
        let error = match crate::read(&path) {
            Ok(arrays) => format!("arrays: {arrays:?}"),
            Err(error) => error.to_string().replace(&format!("{}/", crate::corpus().display()), ""),
        };
        let told = TOLD.iter().find(|(of, _)| *of == name).map(|(_, told)| *told);
        if told != Some(&*error) || error.contains('\n') {
            wrong += &format!("    ({name:?}, {error:?}),\n");
        }
        untold.remove(&name);
    }
    assert!(untold.is_empty() && wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_files_that_are_right_are_read() {
    for name in ["right.index", "right.npy", "right.npz", "right.safetensors"] {
        let arrays = crate::read(&crate::corpus().join(name)).unwrap();
        assert_eq!(arrays.values().next().unwrap().shape, [2], "{name}");
    }
}
