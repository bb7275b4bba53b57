use serde_json::json;

use super::*;

#[test]
fn folders_are_numbered_after_the_greatest_there_is() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().join("runs");
    for name in ["0001", "0002"] {
        assert_eq!(RunFolder::create(None, &root).unwrap().path(), root.join(name));
    }
    fs::create_dir(root.join("0041")).unwrap();
    fs::write(root.join("notes"), "").unwrap();
    assert_eq!(RunFolder::create(None, &root).unwrap().path(), root.join("0042"));
}

#[test]
fn processes_that_ask_at_once_get_folders_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let made = std::thread::scope(|scope| {
        let create = || RunFolder::create(None, root.path()).unwrap().path;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(made.len(), 8);
}

#[test]
fn a_named_folder_must_be_new_or_empty() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a").join("b");
    let run = RunFolder::create(Some(&path), root.path()).unwrap();
    fs::write(path.join(".config.toml.x1.tmp"), "half").unwrap();
    assert_eq!(RunFolder::create(Some(&path), root.path()).unwrap(), run);
    run.save_config("seed = 1\n").unwrap();
    let refusal = |path: &Path| RunFolder::create(Some(path), root.path()).unwrap_err().to_string();
    assert_eq!(
        refusal(&path),
        format!(
            "`{}`: expected no run folder yet, \
             got a run folder that exists and is not empty",
            path.display()
        )
    );
    let file = path.join(CONFIG);
    assert_eq!(
        refusal(&file),
        format!("`{}`: expected no run folder yet, got a file", file.display())
    );
}

#[test]
fn only_a_folder_with_a_configuration_opens() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let shown = path.display();
    let refusal = || RunFolder::open(&path).unwrap_err().to_string();
    assert_eq!(refusal(), format!("`{shown}`: expected the folder of a run, got none"));
    let run = RunFolder::create(Some(&path), root.path()).unwrap();
    assert_eq!(
        refusal(),
        format!("`{shown}`: expected the folder of a run, got a folder without `config.toml`")
    );
    run.save_config("seed = 1\n").unwrap();
    assert_eq!(RunFolder::open(&path).unwrap().config().unwrap(), "seed = 1\n");
}

#[test]
fn a_model_comes_back_with_its_description() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::create(None, root.path()).unwrap();
    let json = json!({ "classes": ["cat", "dog"], "scale": 0.1 });
    let array = ArrayRef { name: "head", shape: &[2, 1], values: &[1.0, 2.0] };
    run.save_model(&[array], &json).unwrap();
    // A process killed between the two files leaves an old `model.json`.
    fs::write(run.path().join(MODEL_JSON), "{}").unwrap();
    let model = run.load_model().unwrap();
    assert_eq!(model.json, json);
    assert_eq!(model.arrays["head"].values, [1.0, 2.0]);
    model.check_shapes(&[("head", &[2, 1])]).unwrap();
    assert_eq!(
        model.check_shapes(&[("head", &[1, 2])]).unwrap_err().to_string(),
        format!(
            "`{}`: expected the model's 1 arrays, \
             got `head` of shape [2, 1] instead of [1, 2]",
            run.path().join(MODEL).display()
        )
    );
    write_safetensors(&run.path().join(MODEL), &[array], &Metadata::new()).unwrap();
    assert_eq!(run.load_model().unwrap().json, json!({}));
}

#[test]
fn a_run_is_saved_and_resumed() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::create(None, root.path()).unwrap();
    assert_eq!(run.load_state().unwrap(), None);
    let mut metrics = run.metrics().unwrap();
    for step in 1..=3 {
        metrics.append(&json!({ "step": step })).unwrap();
    }
    let array = ArrayRef { name: "w", shape: &[1], values: &[1.0] };
    run.save_state(2, &[array], json!({ "epoch": 1 })).unwrap();
    let state = run.load_state().unwrap().unwrap();
    assert_eq!((state.step, state.extra), (2, json!({ "epoch": 1 })));
    run.truncate_metrics_after(state.step).unwrap();
    run.metrics().unwrap().append(&json!({ "step": 3 })).unwrap();
    let text = fs::read_to_string(run.path().join(METRICS)).unwrap();
    assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}
