//! The sides of the contest: a driver, its options, and the kind of memory a program takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use lockstep_harness::loader;
use serde::Serialize;

use crate::shared::Sync;

/// Sides that not everybody wants, or has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Extra {
    /// The method of the patch series: every page tracked, the switch at 10 % and three in a row
    Series,
    /// The host's own coherent memory, as a type of Lockstep
    Native,
    /// The host's driver without Lockstep
    Host,
    /// GFXReconstruct's page guard over the host's driver, capture armed, no frame written
    PageGuard,
    /// GFXReconstruct's userfaultfd mode, likewise
    Userfaultfd,
}

/// One contestant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) sync: Sync,
    /// On the host's driver, without Lockstep.
    pub(crate) is_host: bool,
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// The host's driver without Lockstep.
pub(crate) const HOST_ALONE: &str = "host alone";
/// Who else tracks what the CPU writes.
pub(crate) const PAGE_GUARD: &str = "GFXReconstruct, page guard";

/// The place of the yardstick in [`sides`].
pub(crate) const YARDSTICK: usize = 0;
/// The place of the yardstick's double.
pub(crate) const DOUBLE: usize = 1;
/// The place of emulated coherent memory.
pub(crate) const COHERENT: usize = 2;

/// The yardstick, its double, emulated coherent memory, and what else is wanted; by default what can be had.
pub(crate) fn sides(extras: Option<&[Extra]>) -> Result<Vec<Side>> {
    let lockstep = |name, sync, environment| Side { name, sync, is_host: false, environment };
    let mut sides = vec![
        lockstep("explicit", Sync::Explicit, vec![]),
        lockstep("explicit again", Sync::Explicit, vec![]),
        lockstep("emulated coherent", Sync::Coherent, vec![]),
    ];
    let has_layer = layer().is_some();
    let mut default = vec![Extra::Native, Extra::Host];
    default.extend(has_layer.then_some(Extra::PageGuard));
    for extra in extras.unwrap_or(&default) {
        let trimmed = |mode: &str| {
            vec![
                ("VK_INSTANCE_LAYERS", LAYER.to_owned()),
                ("GFXRECON_MEMORY_TRACKING_MODE", mode.to_owned()),
                // Armed, as for a capture that a key starts: the layer follows memory, and writes no frame.
                ("GFXRECON_CAPTURE_TRIGGER", "F12".to_owned()),
                ("GFXRECON_CAPTURE_FILE", "/dev/null".to_owned()),
                ("GFXRECON_LOG_LEVEL", "fatal".to_owned()),
            ]
        };
        sides.push(match extra {
            Extra::Series => {
                lockstep("series", Sync::Coherent, vec![("LOCKSTEP_POLICY", "series".to_owned())])
            }
            Extra::Native => {
                lockstep("native coherent", Sync::Native, vec![("LOCKSTEP_NATIVE_TYPE", "1".to_owned())])
            }
            Extra::Host => {
                Side { name: HOST_ALONE, sync: Sync::Coherent, is_host: true, environment: vec![] }
            }
            Extra::PageGuard | Extra::Userfaultfd => {
                if !has_layer {
                    bail!("GFXReconstruct's layer is not installed (Debian: apt install gfxreconstruct)");
                }
                let (name, mode) = match extra {
                    Extra::PageGuard => (PAGE_GUARD, "page_guard"),
                    _ => ("GFXReconstruct, userfaultfd", "userfaultfd"),
                };
                Side { name, sync: Sync::Coherent, is_host: true, environment: trimmed(mode) }
            }
        });
    }
    Ok(sides)
}

/// The sides of whole programs: the host alone, twice, and Lockstep.
pub(crate) fn whole() -> [Side; 3] {
    [(HOST_ALONE, true), ("host alone again", true), ("Lockstep", false)].map(|(name, is_host)| Side {
        name,
        sync: Sync::Coherent,
        is_host,
        environment: vec![],
    })
}

const LAYER: &str = "VK_LAYER_LUNARG_gfxreconstruct";

/// The manifest of GFXReconstruct's layer.
fn layer() -> Option<PathBuf> {
    let places = std::env::var_os("VK_LAYER_PATH")
        .into_iter()
        .flat_map(|paths| std::env::split_paths(&paths).collect::<Vec<_>>());
    let usual =
        ["/usr/share", "/usr/local/share", "/etc"].map(|at| Path::new(at).join("vulkan/explicit_layer.d"));
    places.chain(usual).map(|at| at.join("VkLayer_gfxreconstruct.json")).find(|path| path.exists())
}

impl Side {
    /// Sets a program up to run on this side.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let host = std::env::var_os("LOCKSTEP_HOST_ICD").unwrap_or_else(|| loader::host_manifest().into());
        command.env("LOCKSTEP_HOST_ICD", &host);
        let driver = if self.is_host { PathBuf::from(host) } else { loader::manifest_under_test() };
        command
            .env(loader::TEST_ICD, &driver)
            .env("VK_ICD_FILENAMES", &driver)
            .env("VK_DRIVER_FILES", &driver);
    }
}
