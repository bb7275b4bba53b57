use std::io::Write;

use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [MAGIC, &[1, 0], &length, header.as_bytes(), data].concat()
}

fn dict(descr: &str, order: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
}

fn bytes_of(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The refusal of a file of these bytes, without the file's name.
fn refusal(bytes: &[u8]) -> String {
    let (expected, got) = parse::<f32>(bytes).unwrap_err();
    format!("expected {expected}, got {got}")
}

#[test]
fn double_precision_is_kept() {
    let file = npy(&dict("<f8", "False", "(2,)"), &bytes_of(&[0.1, f64::MIN_POSITIVE]));
    let array: Array<f64> = parse(&file).unwrap();
    assert_eq!(array, Array { shape: vec![2], values: vec![0.1, f64::MIN_POSITIVE] });
}

#[test]
fn column_major_becomes_row_major() {
    // [[1, 2, 3], [4, 5, 6]] lies on the disk column after column.
    let columns = bytes_of(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let array: Array = parse(&npy(&dict("<f8", "True", "(2, 3)"), &columns)).unwrap();
    assert_eq!(array.values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    // [2, 2, 2], the place of a value written as its index: axes (a, b, c) at a + 2b + 4c.
    let places = bytes_of(&[0.0, 100.0, 10.0, 110.0, 1.0, 101.0, 11.0, 111.0]);
    let array: Array = parse(&npy(&dict("<f8", "True", "(2, 2, 2)"), &places)).unwrap();
    assert_eq!(array.values, [0.0, 1.0, 10.0, 11.0, 100.0, 101.0, 110.0, 111.0]);
}

#[test]
fn scalars_empty_arrays_and_big_endian_are_read() {
    let scalar: Array = parse(&npy(&dict(">f4", "False", "()"), &1.5_f32.to_be_bytes())).unwrap();
    assert_eq!(scalar, Array { shape: vec![], values: vec![1.5] });
    let empty: Array = parse(&npy(&dict("|b1", "True", "(0, 3)"), &[])).unwrap();
    assert_eq!(empty, Array { shape: vec![0, 3], values: vec![] });
}

#[test]
fn what_is_no_plain_array_is_refused() {
    assert_eq!(refusal(b"hello"), "expected a NumPy array, got 5 bytes of something else");
    let whole = npy(&dict("<f8", "False", "(2,)"), &bytes_of(&[1.0, 2.0]));
    for length in 0..whole.len() {
        assert!(parse::<f32>(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
    }
    assert_eq!(
        refusal(&whole[..whole.len() - 1]),
        "expected values of 8 bytes for shape [2], got 15 bytes"
    );
    assert_eq!(
        refusal(&npy(&dict("|O", "False", "(1,)"), &[0])),
        "expected numbers, got type '|O', 'fortran_order': False, 'shape': (1,), }"
    );
    assert_eq!(
        refusal(&npy(&dict("<f8", "False", "(-1,)"), &[])),
        "expected a NumPy header, got `{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }`"
    );
    let huge = format!("({0}, {0})", usize::MAX);
    assert_eq!(
        refusal(&npy(&dict("<f8", "True", &huge), &[])),
        format!("expected values of 8 bytes for shape [{0}, {0}], got 0 bytes", usize::MAX)
    );
}

#[test]
fn a_header_longer_than_the_file_costs_no_memory() {
    let lying = [MAGIC, &[2, 0], &u32::MAX.to_le_bytes(), b"{"].concat();
    assert_eq!(refusal(&lying), "expected a NumPy array, got 13 bytes of something else");
}

#[test]
fn a_written_array_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for shape in [vec![], vec![1], vec![1, 1, 1]] {
        let array = Array { shape, values: vec![0.1_f32] };
        write_npy(&path, &array).unwrap();
        assert_eq!(read_npy::<f32>(&path).unwrap(), array);
        assert_eq!(fs::read(&path).unwrap().len(), 2 * ALIGNMENT + 4);
    }
    assert_eq!(
        write_npy(&path, &Array { shape: vec![2], values: vec![] }).unwrap_err().to_string(),
        "write_npy: expected as many values as the shape has places, got 0 values for [2]"
    );
}

fn npz(path: &Path, entries: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (index, (name, bytes)) in entries.iter().enumerate() {
        let method = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated][index % 2];
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn zeros_that_shrank_a_thousandfold_are_read_only_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zeros.npz");
    let archive = |megabytes: usize| {
        let zeros = Array { shape: vec![megabytes << 18], values: vec![0.0; megabytes << 18] };
        write_npy(&folder.path().join("z.npy"), &zeros).unwrap();
        let npy = fs::read(folder.path().join("z.npy")).unwrap();
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        archive.start_file("z.npy", zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, &npy).unwrap();
        archive.finish().unwrap();
    };
    archive(32);
    assert_eq!(read_npz::<f32>(&path).unwrap()["z"].shape, [32 << 18]);
    archive(96);
    let refused = read_npz::<f32>(&path).unwrap_err().to_string();
    let size = fs::metadata(&path).unwrap().len();
    let most = 32 * size + (64 << 20);
    assert_eq!(
        refused,
        format!(
            "`{}`: expected `z.npy` to hold at most {most} bytes more, for an archive of {size}, \
             got {}",
            path.display(),
            (96 << 20) + 128
        )
    );
}

#[test]
fn stored_and_deflated_arrays_of_an_archive_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let one = npy(&dict("<f8", "False", "(1,)"), &bytes_of(&[1.0]));
    let zeros = npy(&dict("<f8", "False", "(1000,)"), &bytes_of(&[0.0; 1000]));
    npz(&path, &[("block/one.npy", &one), ("zeros.npy", &zeros)]);
    let arrays: Arrays = read_npz(&path).unwrap();
    assert_eq!(arrays.keys().collect::<Vec<_>>(), ["block/one", "zeros"]);
    assert_eq!(arrays["block/one"].values, [1.0]);
    assert_eq!(arrays["zeros"].values, [0.0; 1000]);
}

#[test]
fn a_broken_archive_names_the_file_and_the_array() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    npz(&path, &[("a.npy", b"hello")]);
    let shown = path.display();
    assert_eq!(
        read_npz::<f32>(&path).unwrap_err().to_string(),
        format!("`{shown}`: expected `a.npy` to hold a NumPy array, got 5 bytes of something else")
    );
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.windows(5).position(|window| window == b"hello").unwrap();
    bytes[place] = b'j';
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        read_npz::<f32>(&path).unwrap_err().to_string(),
        format!("`{shown}`: expected a zip archive of arrays, got i/o error: Invalid checksum")
    );
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let refusal = read_npz::<f32>(&path).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("`{shown}`: expected a zip archive")), "{refusal}");
    }
}

#[test]
fn a_claim_that_the_file_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    npz(&path, &[("a.npy", b"hello")]);
    let mut bytes = fs::read(&path).unwrap();
    // Compressed and full size in the central directory, 20 and 24 bytes into the entry.
    let entry = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        read_npz::<f32>(&path).unwrap_err().to_string(),
        format!(
            "`{}`: expected `a.npy` to hold no more than the file can, \
             got a claim of 2147483647 bytes in {}",
            path.display(),
            bytes.len()
        )
    );
}
