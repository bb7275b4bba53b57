//! `sparsely export`: a run's model for other programs.

use super::Trained;
use crate::args::{ExportFormat, ExportVmoeArgs, PrecisionArgs};
use anyhow::{Context, Result, bail};
use sparsely::checkpoint::reference::{describe_config, to_arrays};
use sparsely::checkpoint::{array_refs, write_json, write_npz, write_vmoe};
use std::collections::BTreeSet;
use std::fs::create_dir_all;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) fn run(format: &ExportFormat) -> Result<ExitCode> {
    match format {
        ExportFormat::Vmoe(args) => vmoe(args),
    }
}

fn vmoe(args: &ExportVmoeArgs) -> Result<ExitCode> {
    let descriptions = descriptions(args);
    refuse_existing(descriptions.iter().chain(&args.npz))?;
    let Trained { model, params, .. } = Trained::open(&args.run, &PrecisionArgs::default())?;
    let description = describe_config(model.config())?;
    let params = params.to_slab()?;
    let arrays = to_arrays(model.config(), &params)?;
    drop(params); // it is all in the arrays
    let arrays = array_refs(&arrays);
    for path in &descriptions {
        let folder = path.parent().unwrap_or(path);
        create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    }
    let mut written = Vec::new();
    if let Some(prefix) = &args.prefix {
        written.extend(write_vmoe(prefix, &arrays, args.shards.get())?);
    }
    if let Some(npz) = &args.npz {
        write_npz(npz, &arrays)?;
        written.push(npz.clone());
    }
    for path in descriptions {
        write_json(&path, &description)?;
        written.push(path);
    }
    written.iter().for_each(|path| say!("{}", path.display()));
    Ok(ExitCode::SUCCESS)
}

/// `PREFIX.json`, and the npz file's name with that ending; they may be the same.
fn descriptions(args: &ExportVmoeArgs) -> BTreeSet<PathBuf> {
    let beside_prefix = args.prefix.as_ref().map(|prefix| {
        let mut path = prefix.as_os_str().to_os_string();
        path.push(".json");
        path.into()
    });
    let beside_npz = args.npz.as_ref().map(|npz| npz.with_extension("json"));
    beside_prefix.into_iter().chain(beside_npz).collect()
}

fn refuse_existing<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    for path in paths {
        if path.symlink_metadata().is_ok() {
            bail!("`{}`: expected no file of that name yet, got one", path.display());
        }
    }
    Ok(())
}
