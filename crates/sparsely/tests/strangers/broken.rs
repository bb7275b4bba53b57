//! Each broken file, and all that is said of it.

/// One line for each broken file, in the order of their names.
const TOLD: &str = include_str!("../fixtures/strangers/told.txt");

#[test]
fn every_broken_file_is_told_in_one_line() {
    let folder = format!("{}/", crate::corpus().display());
    let mut told = String::new();
    for name in crate::make::files().into_keys() {
        if name.starts_with("right.") || name.contains(".data-") {
            continue;
        }
        let line = match crate::read(&crate::corpus().join(&name)) {
            Ok(arrays) => format!("{name} was read: {arrays:?}"),
            Err(error) => error.to_string().replace(&folder, ""),
        };
        told += &format!("{line}\n");
    }
    assert!(told == TOLD, "told now:\n{told}");
}

#[test]
fn the_files_that_are_right_are_read() {
    for name in ["right.index", "right.npy", "right.npz", "right.safetensors"] {
        let arrays = crate::read(&crate::corpus().join(name)).unwrap();
        assert_eq!(arrays.values().next().unwrap().shape, [2], "{name}");
    }
}
