//! Writes what is generated from the verdicts, or checks that it is up to date.
//!
//! `lockstep-verdicts ASH_VERSION ASH_SOURCE [--check]`, from the repository; run by `scripts/generate`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lockstep_verdicts::ash::Ash;
use lockstep_verdicts::{Verdicts, registry, repository, table};

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (version, source, check) = match &arguments[..] {
        [version, source] => (version, source, false),
        [version, source, check] if check == "--check" => (version, source, true),
        _ => bail!("usage: lockstep-verdicts ASH_VERSION ASH_SOURCE [--check]"),
    };
    let root = repository();
    let ash = Ash::read(Path::new(source))?;
    let mut verdicts = Verdicts::read(&root, Path::new(registry::INSTALLED))?;
    verdicts.check_newer(&ash);
    for problem in verdicts.problems() {
        println!("{problem}");
    }
    ensure!(verdicts.problems().is_empty(), "{} problems: see docs/verdicts.toml", verdicts.problems().len());

    let generated = [
        (table::TABLE, table::page(&verdicts, &ash, version)),
        (table::OFFERED, table::offered(&verdicts, &ash, version)),
    ];
    for (name, text) in generated {
        let path = root.join(name);
        if !check {
            std::fs::write(&path, text).with_context(|| format!("writing {name}"))?;
            continue;
        }
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let of_this_registry = old.contains(&format!("`vk.xml` {},", verdicts.version()));
        if name == table::TABLE && !of_this_registry {
            println!("{name} was made from another registry than {}: not compared", verdicts.version());
        } else {
            ensure!(old == text, "{name} is not what scripts/generate writes");
        }
    }
    Ok(())
}
