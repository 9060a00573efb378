//! icd
