//! What ash knows: the commands of each version and extension. It is newer than the registry, and what it
//! does not know, Lockstep cannot pass on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What the sources of ash say.
#[derive(Debug)]
pub struct Ash {
    /// Commands of versions.
    pub core: BTreeSet<String>,
    /// Commands of extensions.
    pub extensions: BTreeMap<String, BTreeSet<String>>,
}

impl Ash {
    /// Reads ash's sources, which lie in `folder`.
    ///
    /// # Errors
    /// When they do not.
    pub fn read(folder: &Path) -> Result<Self> {
        let read = |name| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let core = commands(&read("tables.rs")?).collect();
        let mut extensions = BTreeMap::new();
        for part in read("extensions_generated.rs")?.split("#[doc = \"VK_").skip(1) {
            let Some((name, rest)) = part.split_once('"') else { continue };
            // The functions of an extension have a line of their own.
            let name = name.split(' ').next().unwrap_or_default();
            let known: &mut BTreeSet<_> = extensions.entry(format!("VK_{name}")).or_default();
            known.extend(commands(rest));
        }
        ensure!(extensions.len() > 300, "no extensions in {}", folder.display());
        Ok(Self { core, extensions })
    }
}

fn commands(text: &str) -> impl Iterator<Item = String> {
    text.split("b\"vk").skip(1).filter_map(|rest| Some(format!("vk{}", rest.split_once("\\0")?.0)))
}
