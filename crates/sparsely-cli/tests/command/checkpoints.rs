//! Models of other programs, in and out.

use crate::{run, sparsely, stderr, stdout, train_tiny, write_image};
use sparsely::checkpoint::{
    Array, Arrays, array_refs, read_npy, read_npz, read_safetensors, write_npy, write_npz,
};
use sparsely::model::resize_positions;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CASE: &str = "vmoe_token_c1.0_vanilla";
const POSITIONS: &str = "Encoder/posembed_input/pos_embedding";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sparsely/tests/fixtures")
}

/// The reference's own checkpoint of the case, one file or two.
fn native(how: &str) -> PathBuf {
    fixtures().join("native").join(format!("{CASE}.{how}"))
}

fn config_of(case: &str) -> PathBuf {
    fixtures().join("golden").join(case).join("config.json")
}

fn arrays<T: sparsely::checkpoint::Element>(path: &Path) -> Arrays<T> {
    read_safetensors(path).unwrap().0
}

fn import(source: &Path, config: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = sparsely();
    command.args(["import", "vmoe"]).arg(source).arg("--config").arg(config);
    command.arg("--out").arg(out).args(more).output().unwrap()
}

fn export(run: &Path, args: &[&str]) -> Output {
    sparsely().args(["export", "vmoe"]).arg(run).args(args).output().unwrap()
}

/// Refused with exactly this line; nothing is at `out`, nor beside it in its own folder.
fn refuses(output: &Output, line: &str, out: &Path) {
    assert_eq!(stderr(output), format!("sparsely: {line}\n"));
    assert_eq!(output.status.code(), Some(2));
    assert!(!out.exists());
    let beside =
        fs::read_dir(out.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = beside.filter(|name| name.to_str().unwrap().ends_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Logits of the case's images by a run, and those of the reference.
fn assert_logits_of_the_case(run: &Path, case: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    let case: Arrays<f64> = arrays(&fixtures().join("golden").join(case).join("case.safetensors"));
    let images = &case["input"];
    let values = images.values.iter().map(|value| *value as f32).collect();
    write_npy(&input, &Array { shape: images.shape.clone(), values }).unwrap();
    let mut command = sparsely();
    command.arg("logits").arg(run).arg("--input").arg(&input).arg("--output").arg(&output);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    let logits: Array<f64> = read_npy(&output).unwrap();
    let expected = &case["logits_f64"];
    assert_eq!(logits.shape, expected.shape);
    for (ours, theirs) in logits.values.iter().zip(&expected.values) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} {theirs}");
    }
}

#[test]
fn a_checkpoint_comes_in_computes_the_same_and_goes_out_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for how in ["1shard", "2shards_chunk2048B"] {
        let out = folder.path().join(how);
        let imported = import(&native(how), &config_of(CASE), &out, &[]);
        assert!(imported.status.success(), "{}", stderr(&imported));
        let line = format!("{}: 0.1 M parameters, images of 32×32×3, 10 classes\n", out.display());
        assert_eq!(stdout(&imported), line);
        assert_logits_of_the_case(&out, CASE);

        let prefix = folder.path().join("out").join(how);
        let exported = export(&out, &[prefix.to_str().unwrap()]);
        assert!(exported.status.success(), "{}", stderr(&exported));
        let at = prefix.display();
        let lines = format!("{at}.data-00000-of-00001\n{at}.index\n{at}.json\n");
        assert_eq!(stdout(&exported), lines);
        // Whatever it came in as, it goes out as the reference writes it on one device.
        for file in ["index", "data-00000-of-00001"] {
            let bytes = |prefix: &Path| fs::read(format!("{}.{file}", prefix.display())).unwrap();
            assert!(bytes(&prefix) == bytes(&native("1shard")), "{how}: {file}");
        }
    }
}

#[test]
fn a_trained_run_goes_out_and_comes_back_with_the_same_bits_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let trained = train_tiny(&at("run"), &[]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let [prefix, npz] = ["c", "flat.npz"].map(|name| at(name).to_str().unwrap().to_string());
    let exported = export(&at("run"), &[&prefix, "--shards", "3", "--npz", &npz]);
    assert!(exported.status.success(), "{}", stderr(&exported));
    assert!(at("c.data-00002-of-00003").is_file() && !at("c.data-00000-of-00001").exists());
    assert_eq!(fs::read(at("c.json")).unwrap(), fs::read(at("flat.json")).unwrap());

    let evaluated = |run: &Path| {
        let output =
            sparsely().arg("eval").arg(run).args(["--data", "digits", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let line: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        (line["loss"].clone(), line["top1"].clone(), line["layers"].clone())
    };
    for (source, name) in [("c", "from_checkpoint"), ("flat.npz", "from_npz")] {
        let back = import(&at(source), &at("c.json"), &at(name), &["--data", "digits"]);
        assert!(back.status.success(), "{}", stderr(&back));
        let bits = |run: &str| {
            let arrays: Arrays = arrays(&at(run).join("model.safetensors"));
            let bits = |a: Array| a.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            arrays.into_iter().map(|(name, array)| (name, bits(array))).collect::<Vec<_>>()
        };
        assert!(bits(name) == bits("run"), "{name}");
        assert_eq!(evaluated(&at(name)), evaluated(&at("run")));
    }
}

#[test]
fn classes_have_the_names_of_a_file_of_the_data_or_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = at("x.png");
    write_image(&image, 2);
    fs::write(at("names.txt"), (0..10).map(|v| format!("digit {v} \n")).collect::<String>())
        .unwrap();
    let names = at("names.txt").to_str().unwrap().to_string();
    for (more, start) in
        [(&["--class-names", &*names][..], "digit "), (&["--data", "digits"], ""), (&[], "class ")]
    {
        let out = at(&format!("run{}", more.len() + start.len()));
        let imported = import(&native("1shard"), &config_of(CASE), &out, more);
        assert!(imported.status.success(), "{}", stderr(&imported));
        let output = sparsely().arg("predict").arg(&out).arg(&image).output().unwrap();
        let answer = stdout(&output);
        let first = answer.strip_prefix(&format!("{}: {start}", image.display())).unwrap();
        assert!(first.starts_with(|c: char| c.is_ascii_digit()), "{answer}");
    }
    let out = at("refused");
    fs::write(at("names.txt"), "cat\ndog\n").unwrap();
    let output = import(&native("1shard"), &config_of(CASE), &out, &["--class-names", &names]);
    let line = format!("`{names}`: expected the names of the model's 10 classes, got 2");
    refuses(&output, &line, &out);
}

#[test]
fn an_imported_model_asks_for_images_and_is_no_run_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(import(&native("1shard"), &config_of(CASE), &out, &[]).status.success());
    let output = run(&["eval", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let line = "sparsely: the model was imported without images: name a folder with --data\n";
    assert_eq!(stderr(&output), line);

    let output = run(&["train", "--resume", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let got = "expected a run that was trained, got an imported model, which there is no state of \
               to go on from";
    assert_eq!(stderr(&output), format!("sparsely: `{}`: {got}\n", out.display()));

    let data = folder.path().join("data");
    for class in ["cat", "dog"] {
        fs::create_dir_all(data.join(class)).unwrap();
        let image = image::RgbImage::from_fn(40, 32, |x, y| image::Rgb([x as u8, y as u8, 200]));
        (0..8).for_each(|i| image.save(data.join(class).join(format!("{i}.png"))).unwrap());
    }
    let output = sparsely().arg("eval").arg(&out).arg("--data").arg(&data).output().unwrap();
    assert_eq!(stderr(&output), "sparsely: the model knows 10 classes, the data have 2\n");
}

/// The dense case's parameters under other programs' names.
fn flat_vit(rename: impl Fn(&str) -> String) -> Arrays {
    let params: Arrays = arrays(&fixtures().join("golden/vit_dense_no_moe/params.safetensors"));
    params.into_iter().map(|(name, array)| (rename(&name), array)).collect()
}

#[test]
fn flat_vit_files_of_both_programs_compute_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = config_of("vit_dense_no_moe");
    let released = flat_vit(|name| {
        name.replace("Encoder/", "Transformer/")
            .replace("LayerNorm_1", "LayerNorm_2")
            .replace("SelfAttention", "MultiHeadDotProductAttention_1")
            .replace("/Mlp/", "/MlpBlock_3/")
    });
    let mut big_vision = flat_vit(|name| {
        name.replace(POSITIONS, "pos_embedding")
            .replace("Encoder/", "Transformer/")
            .replace("SelfAttention", "MultiHeadDotProductAttention_0")
            .replace("/Mlp/", "/MlpBlock_0/")
    });
    // There the class token has no position of its own: here it is added to it before.
    let positions = big_vision.get_mut("pos_embedding").unwrap();
    let d = positions.shape[2];
    positions.shape[1] -= 1;
    let row: Vec<f32> = positions.values.drain(..d).collect();
    let cls = big_vision.get_mut("cls").unwrap();
    cls.values.iter_mut().zip(row).for_each(|(value, position)| *value += position);

    for (name, arrays) in [("released", released), ("big_vision", big_vision)] {
        let npz = folder.path().join(format!("{name}.npz"));
        write_npz(&npz, &array_refs(&arrays)).unwrap();
        let out = folder.path().join(name);
        let imported = import(&npz, &config, &out, &[]);
        assert!(imported.status.success(), "{}", stderr(&imported));
        assert_logits_of_the_case(&out, "vit_dense_no_moe");
    }
}

#[test]
fn positions_and_groups_follow_the_image_size() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let imported = import(&native("1shard"), &config_of(CASE), &out, &["--image-size", "48"]);
    assert!(imported.status.success(), "{}", stderr(&imported));
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    // Two images of 17 tokens are two images of 37.
    assert!(config.contains("image_size = 48") && config.contains("n = 74"), "{config}");
    let npz = folder.path().join("p.npz");
    assert!(export(&out, &["--npz", npz.to_str().unwrap()]).status.success());
    let (resized, all): (Arrays, Arrays) = (
        read_npz(&npz).unwrap(),
        arrays(&fixtures().join("golden").join(CASE).join("params.safetensors")),
    );
    for (name, array) in &all {
        let expected = match &**name {
            POSITIONS => resize_positions(&array.values, 32, 37).unwrap(),
            _ => array.values.clone(),
        };
        assert_eq!(resized[name].values, expected, "{name}");
    }
    assert_eq!(resized[POSITIONS].shape, [1, 37, 32]);
}

#[test]
fn soft_experts_keep_their_slots_at_another_image_size() {
    let folder = tempfile::tempdir().unwrap();
    let (out, source) = (folder.path().join("run"), fixtures().join("native/soft_gap_c1.0.1shard"));
    let imported = import(&source, &config_of("soft_gap_c1.0"), &out, &["--image-size", "48"]);
    assert!(imported.status.success(), "{}", stderr(&imported));
    let arrays: Arrays = arrays(&out.join("model.safetensors"));
    assert_eq!(arrays["blocks/1/moe/router/mu"].shape, [32, 4, 4]);
    assert_eq!(arrays["positions"].shape, [36, 32]);
    let image = folder.path().join("x.png");
    write_image(&image, 2);
    let output = sparsely().arg("predict").arg(&out).arg(&image).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn all_that_does_not_fit_is_told_in_one_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let text = fs::read_to_string(config_of(CASE)).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["representation_size"] = 16.into();
    json["encoder"]["moe"]["layers"] = serde_json::json!([1]);
    json["encoder"]["moe"]["num_experts"] = 5.into();
    let config = folder.path().join("c.json");
    fs::write(&config, json.to_string()).unwrap();
    let output = import(&native("1shard"), &config, &out, &[]);
    let line = format!(
        "`{}`: expected the model's 75 arrays, got \
         `Encoder/encoderblock_1/Moe/Router/dense/kernel` of shape [32, 4] instead of [32, 5], \
         `Encoder/encoderblock_1/Moe/Mlp/Dense_0/kernel` of shape [4, 32, 64] instead of [5, 32, 64], \
         `Encoder/encoderblock_1/Moe/Mlp/Dense_0/bias` of shape [4, 64] instead of [5, 64], \
         `Encoder/encoderblock_1/Moe/Mlp/Dense_1/kernel` of shape [4, 64, 32] instead of [5, 64, 32], \
         `Encoder/encoderblock_1/Moe/Mlp/Dense_1/bias` of shape [4, 32] instead of [5, 32], \
         no `Encoder/encoderblock_3/Mlp/Dense_0/kernel`, no `Encoder/encoderblock_3/Mlp/Dense_0/bias`, \
         no `Encoder/encoderblock_3/Mlp/Dense_1/kernel`, no `Encoder/encoderblock_3/Mlp/Dense_1/bias`, \
         no `pre_logits/kernel`, no `pre_logits/bias`, \
         `head/kernel` of shape [32, 10] instead of [16, 10], \
         an unexpected `Encoder/encoderblock_3/Moe/Mlp/Dense_0/bias`, \
         an unexpected `Encoder/encoderblock_3/Moe/Mlp/Dense_0/kernel`, \
         an unexpected `Encoder/encoderblock_3/Moe/Mlp/Dense_1/bias`, \
         an unexpected `Encoder/encoderblock_3/Moe/Mlp/Dense_1/kernel`, \
         an unexpected `Encoder/encoderblock_3/Moe/Router/dense/kernel`",
        native("1shard").display()
    );
    refuses(&output, &line, &out);
}

#[test]
fn what_cannot_be_read_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let missing = folder.path().join("nothing");
    let output = import(&missing, &config_of(CASE), &out, &[]);
    let line = format!(
        "cannot read `{}.index`: No such file or directory (os error 2)",
        missing.display()
    );
    refuses(&output, &line, &out);

    let broken = fixtures().join("strangers/leaf_of_a_terabyte");
    let output = import(&broken, &config_of(CASE), &out, &[]);
    let line = format!(
        "`{}.index`: expected no more than the 72 bytes of the data files can hold, got arrays of \
         1099511627776 bytes",
        broken.display()
    );
    refuses(&output, &line, &out);

    let config = folder.path().join("c.json");
    fs::write(&config, "{").unwrap();
    let output = import(&native("1shard"), &config, &out, &[]);
    let line = format!(
        "`{}` is not JSON: EOF while parsing an object at line 1 column 1",
        config.display()
    );
    refuses(&output, &line, &out);
}

#[test]
fn what_is_there_already_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    fs::create_dir(&out).unwrap();
    let output = import(&native("1shard"), &config_of(CASE), &out, &[]);
    let line = format!("`{}`: expected no file or folder yet, got one that exists", out.display());
    assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);

    fs::remove_dir(&out).unwrap();
    assert!(import(&native("1shard"), &config_of(CASE), &out, &[]).status.success());
    for name in ["c.index", "c.json", "c.npz"] {
        let there = folder.path().join(name);
        fs::write(&there, "mine").unwrap();
        let (prefix, npz) = (folder.path().join("c"), folder.path().join("c.npz"));
        let output = export(&out, &[prefix.to_str().unwrap(), "--npz", npz.to_str().unwrap()]);
        let line = format!("`{}`: expected no file of that name yet, got one", there.display());
        assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
        assert_eq!(fs::read(&there).unwrap(), b"mine");
        fs::remove_file(&there).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

/// A limit on the size of files stands for a full disk: writes fail half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_neither_a_run_nor_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let limited = |args: &[&Path]| {
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_sparsely")]);
        command.args(args).output().unwrap()
    };
    let (source, config, out) = (native("1shard"), config_of(CASE), at("run"));
    let [import_verb, export_verb, vmoe, config_flag, out_flag] =
        ["import", "export", "vmoe", "--config", "--out"].map(Path::new);
    let output = limited(&[import_verb, vmoe, &source, config_flag, &config, out_flag, &out]);
    let model = out.join("model.safetensors");
    let line = format!("cannot write `{}`: File too large (os error 27)", model.display());
    refuses(&output, &line, &out);

    assert!(import(&source, &config, &out, &[]).status.success());
    let output = limited(&[export_verb, vmoe, &out, &at("c")]);
    assert_eq!(output.status.code(), Some(2));
    let line = format!("cannot write `{}.data-00000-of-00001`: File too large", at("c").display());
    assert!(stderr(&output).starts_with(&format!("sparsely: {line}")), "{}", stderr(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Killed at any moment, an import has made a whole run or none.
#[test]
fn a_killed_import_leaves_no_half_made_run() {
    let folder = tempfile::tempdir().unwrap();
    for delay in 0..12 {
        let out = folder.path().join(format!("run{delay}"));
        let mut command = sparsely();
        command.args(["import", "vmoe"]).arg(native("1shard")).arg("--config");
        command.arg(config_of(CASE)).arg("--out").arg(&out).stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2 * delay));
        child.kill().unwrap();
        child.wait().unwrap();
        if out.exists() {
            for file in ["config.toml", "model.json", "model.safetensors"] {
                assert!(out.join(file).is_file(), "{file} after {delay}");
            }
        } else {
            assert!(import(&native("1shard"), &config_of(CASE), &out, &[]).status.success());
        }
    }
}
