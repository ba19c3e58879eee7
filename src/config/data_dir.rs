//! `data_dir`: the directory of Doorward's own files. Other sections derive their default paths from it.

use std::path::PathBuf;

use super::{
    key::{Key, Section},
    reader::Reader,
    value::directory,
};

pub(super) static KEYS: Section = &[&DATA_DIR];

static DATA_DIR: Key<PathBuf> = Key::new(
    "data_dir",
    "./data",
    directory,
    "Directory of the embedded database and of the generated secret.",
);

pub(super) fn read(reader: &mut Reader<'_>) -> PathBuf {
    reader.get(&DATA_DIR)
}
