//! Packed kernels, from memory or from a mapped file, give the bits that plain ones give.

use super::{Model, PRECISIONS, bits};
use crate::draw::uniform;
use sparsely_tensor::{
    Activation, Error, GroupedWeights, Layout, Mapping, PackedSlab, Params, Place, Pool, Precision,
    RowGroups, Slab, Tape,
};
use std::fs;
use std::sync::Arc;

const E: usize = 3;
/// Columns that are cut where rows are few.
const WIDE: usize = 404;

/// A dense layer 40 → 404 and a stack of three kernels 404 → 20.
fn model() -> Model {
    let mut model = Model::drawn(&[
        ("w", [40, WIDE].into()),
        ("b", [WIDE].into()),
        ("w_e", [E, WIDE, 20].into()),
        ("b_e", [E, 20].into()),
    ]);
    let mut layout = Layout::clone(model.params.layout());
    layout.views_mut()[2].stacked = true;
    let mut params = Slab::zeros(Arc::new(layout));
    params.values_mut().copy_from_slice(model.params.values());
    model.params = params;
    model
}

/// The dense layer on `rows` rows, then the kernels of the experts that have rows, both ways.
fn run<'p>(
    (model, precision): (&Model, Precision),
    params: impl Into<Params<'p>>,
    rows: usize,
    used: &[usize],
) -> Vec<u32> {
    let pool = Pool::new();
    let tape = Tape::inference(params, &pool);
    tape.compute_in(precision);
    let x = tape.constant([rows, 40], &uniform(rows * 40, 5)).unwrap();
    let z = x.linear(Activation::Gelu, &model.named("w"), Some(&model.named("b")), None).unwrap();
    let weights = GroupedWeights { w: model.named("w_e"), b: Some(model.named("b_e")) };
    let of = |e| if used.contains(&e) { (0..rows as u32).collect() } else { Vec::new() };
    let groups: Vec<Vec<u32>> = (0..E).map(of).collect();
    let groups = Arc::new(RowGroups::new(rows, &groups).unwrap());
    let y = z.gather_linear(&weights, &groups).unwrap();
    bits(y.values())
}

fn mapped(model: &Model, damage: Option<usize>) -> sparsely_tensor::Result<PackedSlab> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("params");
    let (mut bytes, mut places) = (vec![7_u8; 12], Vec::new());
    for view in model.params.layout().views() {
        let parts = if view.stacked { E } else { 1 };
        let values = model.params.view(&view.param);
        let own: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let checksums = own.chunks(own.len() / parts).map(crc32fast::hash).collect();
        places.push(Place { offset: bytes.len(), checksums });
        bytes.extend(own);
    }
    if let Some(index) = damage {
        let place = places[2].offset;
        bytes[place + index * WIDE * 20 * 4] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    // The file may be unlinked while it is mapped.
    PackedSlab::map(model.params.layout().clone(), Mapping::open(&path).unwrap(), places)
}

#[test]
fn packed_kernels_give_the_same_bits_for_any_number_of_rows() {
    let model = model();
    for precision in PRECISIONS {
        let (memory, file) = (PackedSlab::new(model.params.clone()), mapped(&model, None).unwrap());
        for rows in [1, 2, 5, 24, 49, 50, 64, 130, 256, 300, 600] {
            let run = |params| run((&model, precision), params, rows, &[0, 1, 2]);
            let want = run(Params::Slab(&model.params));
            assert!(run((&memory).into()) == want, "{precision:?}, {rows} rows, from memory");
            assert!(run((&file).into()) == want, "{precision:?}, {rows} rows, from a file");
        }
        assert_eq!(file.to_slab().unwrap().values(), model.params.values());
    }
}

#[test]
fn kernels_that_are_packed_for_one_precision_serve_another() {
    let model = model();
    let file = mapped(&model, None).unwrap();
    for precision in PRECISIONS {
        let run = |params| run((&model, precision), params, 50, &[0, 1, 2]);
        assert!(run((&file).into()) == run(Params::Slab(&model.params)), "{precision:?}");
    }
}

#[test]
fn a_kernel_that_nobody_uses_is_neither_packed_nor_checked() {
    let model = model();
    let file = mapped(&model, Some(1)).unwrap();
    let own = (&model, Precision::F32);
    assert_eq!((file.usage().stacked_used, file.usage().stacked), (0, E));
    assert!(run(own, &file, 50, &[0, 2]) == run(own, &model.params, 50, &[0, 2]));
    assert_eq!(file.usage().stacked_used, 2);
    let before = file.usage().packed_bytes;
    run(own, &file, 20, &[2]);
    assert_eq!(file.usage().packed_bytes, before);

    let pool = Pool::new();
    let tape = Tape::inference(&file, &pool);
    let x = tape.constant([1, WIDE], &uniform(WIDE, 1)).unwrap();
    let weights = GroupedWeights { w: model.named("w_e"), b: Some(model.named("b_e")) };
    let groups = Arc::new(RowGroups::new(1, &[vec![], vec![0], vec![]]).unwrap());
    let refused = x.gather_linear(&weights, &groups).unwrap_err();
    let Error::Damaged { what, expected, got, .. } = &refused else { panic!("{refused}") };
    assert_eq!(what, "part 1 of `w_e`");
    assert_ne!(expected, got);
    assert!(file.to_slab().is_err());
}

#[test]
fn places_beyond_the_file_are_refused() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("params");
    fs::write(&path, [0; 64]).unwrap();
    let places = vec![Place { offset: 60, checksums: vec![0] }; 4];
    let mapping = Mapping::open(&path).unwrap();
    let refused = PackedSlab::map(model.params.layout().clone(), mapping, places).err().unwrap();
    let start = "PackedSlab::map: expected places of 4 parameters within 64 bytes, got [Place ";
    assert!(refused.to_string().starts_with(start), "{refused}");
}
