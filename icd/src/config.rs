//! Options: environment variables, each with a default that needs no thought.
//!
//! Ignored in set-uid programs (`secure_getenv`), like the loader's own.

use std::ffi::{CStr, OsString, c_char};
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use kmd_sim::uapi::{Method, Readback, TrackerChoice, TrackerKind};
use log::LevelFilter;

/// A variable with a value it cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    variable: &'static str,
    value: String,
    choices: &'static str,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} is not valid: choose {}", self.variable, self.value, self.choices)
    }
}

/// Which memory types are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Guest memory apart from the device's.
    #[default]
    Paravirtual,
    /// All memory is both.
    Unified,
    /// The host's own table.
    Mirror,
}

/// How bytes get to host memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// The CPU writes what it sees well; the device copies where it does not.
    #[default]
    Auto,
    /// The CPU writes; memory that it does not see is not offered as visible.
    Mapped,
    /// The device copies.
    Dma,
}

impl Transport {
    /// The name options and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mapped => "mapped",
            Self::Dma => "dma",
        }
    }
}

impl Profile {
    /// The name options and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paravirtual => "paravirtual",
            Self::Unified => "unified",
            Self::Mirror => "mirror",
        }
    }
}

/// All options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `LOCKSTEP_HOST_ICD`: a manifest's or a library's path.
    pub host_icd: Option<PathBuf>,
    /// `LOCKSTEP_PROFILE`.
    pub profile: Profile,
    /// `LOCKSTEP_NATIVE_TYPE`: add the host's own coherent type as the last memory type.
    pub native_type: bool,
    /// `LOCKSTEP_TRACKER`.
    pub tracker: TrackerChoice,
    /// `LOCKSTEP_READBACK`.
    pub readback: Readback,
    /// `LOCKSTEP_POLICY`.
    pub policy: Method,
    /// `LOCKSTEP_TRANSPORT`.
    pub transport: Transport,
    /// `LOCKSTEP_STATS`: where counters are written.
    pub stats: Option<PathBuf>,
    /// `LOCKSTEP_TRACE`: where a timeline is written.
    pub trace: Option<PathBuf>,
    /// `LOCKSTEP_LOG`; `None` for the default.
    pub log: Option<LevelFilter>,
}

impl Config {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, BadValue> {
        Self::parse(secure_getenv)
    }

    fn parse(get: impl Fn(&CStr) -> Option<OsString>) -> Result<Self, BadValue> {
        let path = |name: &CStr| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let choice = |name: &'static CStr, choices| {
            let variable = name.to_str().expect("names of variables are ASCII");
            let value = get(name).unwrap_or_default().to_string_lossy().into_owned();
            let bad = BadValue { variable, value: value.clone(), choices };
            (value, bad)
        };

        let (value, bad) = choice(c"LOCKSTEP_PROFILE", "paravirtual, unified or mirror");
        let profile = match value.as_str() {
            "" | "paravirtual" => Profile::Paravirtual,
            "unified" => Profile::Unified,
            "mirror" => Profile::Mirror,
            _ => return Err(bad),
        };
        let (value, bad) = choice(c"LOCKSTEP_TRANSPORT", "auto, mapped or dma");
        let transport = match value.as_str() {
            "" | "auto" => Transport::Auto,
            "mapped" => Transport::Mapped,
            "dma" => Transport::Dma,
            _ => return Err(bad),
        };
        let (value, bad) = choice(c"LOCKSTEP_READBACK", "auto, eager or lazy");
        let readback = match value.as_str() {
            "" | "auto" => Readback::Auto,
            "eager" => Readback::Eager,
            "lazy" => Readback::Lazy,
            _ => return Err(bad),
        };
        let (value, bad) = choice(c"LOCKSTEP_POLICY", "auto or series");
        let policy = match value.as_str() {
            "" | "auto" => Method::Auto,
            "series" => Method::Series,
            _ => return Err(bad),
        };
        let (value, bad) = choice(c"LOCKSTEP_NATIVE_TYPE", "0 or 1");
        let native_type = match value.as_str() {
            "" | "0" => false,
            "1" => true,
            _ => return Err(bad),
        };
        let (value, bad) = choice(c"LOCKSTEP_TRACKER", "auto, uffd, sigsegv or compare");
        let tracker = match value.as_str() {
            "" | "auto" => TrackerChoice::Auto,
            "uffd" => TrackerChoice::Only(TrackerKind::Uffd),
            "sigsegv" => TrackerChoice::Only(TrackerKind::Sigsegv),
            "compare" => TrackerChoice::Only(TrackerKind::Compare),
            _ => return Err(bad),
        };
        let (value, bad) = choice(c"LOCKSTEP_LOG", "error, warn, info, debug or trace");
        let log = match value.as_str() {
            "" => None,
            "error" => Some(LevelFilter::Error),
            "warn" => Some(LevelFilter::Warn),
            "info" => Some(LevelFilter::Info),
            "debug" => Some(LevelFilter::Debug),
            "trace" => Some(LevelFilter::Trace),
            _ => return Err(bad),
        };
        Ok(Self {
            host_icd: path(c"LOCKSTEP_HOST_ICD"),
            profile,
            native_type,
            tracker,
            readback,
            policy,
            transport,
            stats: path(c"LOCKSTEP_STATS"),
            trace: path(c"LOCKSTEP_TRACE"),
            log,
        })
    }
}

/// The value of an environment variable, unless the program runs with privileges its user does not have.
#[expect(unsafe_code, reason = "door to secure_getenv(3)")]
pub fn secure_getenv(name: &CStr) -> Option<OsString> {
    unsafe extern "C" {
        fn secure_getenv(name: *const c_char) -> *const c_char;
    }
    // SAFETY: `name` is a C string; the application must not change its environment in other threads
    // while it calls Vulkan, as for every other reader of it.
    let value = unsafe { secure_getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: not null, so it is a C string; it is copied at once.
    let value = unsafe { CStr::from_ptr(value) };
    Some(OsString::from_vec(value.to_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &'static [(&'static CStr, &'static str)]) -> Result<Config, BadValue> {
        Config::parse(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn an_empty_environment_gives_the_defaults() {
        assert_eq!(parse(&[]), Ok(Config::default()));
    }

    #[test]
    fn a_bad_value_is_named_with_its_variable_and_the_choices() {
        let error = parse(&[(c"LOCKSTEP_TRACKER", "magic")]).unwrap_err();
        let expected = "LOCKSTEP_TRACKER=\"magic\" is not valid: choose auto, uffd, sigsegv or compare";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn every_option_is_read() {
        let config = parse(&[
            (c"LOCKSTEP_HOST_ICD", "/x.json"),
            (c"LOCKSTEP_PROFILE", "unified"),
            (c"LOCKSTEP_NATIVE_TYPE", "1"),
            (c"LOCKSTEP_TRACKER", "sigsegv"),
            (c"LOCKSTEP_TRANSPORT", "dma"),
            (c"LOCKSTEP_READBACK", "lazy"),
            (c"LOCKSTEP_POLICY", "series"),
            (c"LOCKSTEP_STATS", "/s"),
            (c"LOCKSTEP_TRACE", "/t"),
            (c"LOCKSTEP_LOG", "trace"),
        ]);
        let expected = Config {
            host_icd: Some("/x.json".into()),
            profile: Profile::Unified,
            native_type: true,
            tracker: TrackerChoice::Only(TrackerKind::Sigsegv),
            readback: Readback::Lazy,
            policy: Method::Series,
            transport: Transport::Dma,
            stats: Some("/s".into()),
            trace: Some("/t".into()),
            log: Some(LevelFilter::Trace),
        };
        assert_eq!(config, Ok(expected));
    }
}
