//! `HOSTILE_HOST`.

use std::sync::LazyLock;

/// What the process's hostile host does; the crate's page explains each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// Memory of the device's own.
    pub vram: bool,
    /// CPU and device see two memories, kept coherent where the specification says so.
    pub split: bool,
    /// Only flushes and invalidations move bytes.
    pub noncoherent: bool,
    /// Work begins late, on several queues.
    pub delay: bool,
    /// Garbage where nobody wrote.
    pub poison: bool,
}

impl Modes {
    fn parse(list: &str) -> Result<Self, String> {
        let mut modes = Self::default();
        for name in list.split(',').filter(|name| !name.is_empty()) {
            match name {
                "vram" => modes.vram = true,
                "split" => modes.split = true,
                "noncoherent" => modes.noncoherent = true,
                "delay" => modes.delay = true,
                "poison" => modes.poison = true,
                _ => return Err(format!("HOSTILE_HOST={list}: there is no mode {name}")),
            }
        }
        if modes.split && modes.noncoherent {
            return Err(format!("HOSTILE_HOST={list}: split is coherent and noncoherent is not"));
        }
        Ok(modes)
    }

    /// Whether the CPU's view of a mapping is not the device's memory itself.
    pub fn shadows(self) -> bool {
        self.split || self.noncoherent
    }
}

/// The modes of this process.
pub fn modes() -> Modes {
    static MODES: LazyLock<Modes> = LazyLock::new(|| {
        let list = std::env::var("HOSTILE_HOST").unwrap_or_default();
        Modes::parse(&list).unwrap_or_else(|error| crate::fail(error))
    });
    *MODES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_turns_on_what_it_names() {
        let both = Modes { split: true, delay: true, ..Default::default() };
        assert_eq!(Modes::parse("split,delay"), Ok(both));
        assert_eq!(Modes::parse(""), Ok(Modes::default()));
    }

    #[test]
    fn what_is_not_a_mode_is_named() {
        assert!(Modes::parse("vram,slow").unwrap_err().contains("slow"));
        assert!(Modes::parse("split,noncoherent").is_err());
    }
}
