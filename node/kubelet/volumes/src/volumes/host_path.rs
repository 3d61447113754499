//! Checks of hostPath types (upstream: `pkg/volume/hostpath`).

use std::fs::{self, File, FileType, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use crate::error::VolumeError;

/// Checks that `path` is what `wanted` says, and makes it where `wanted` says so.
pub(super) fn check(path: &Path, wanted: &str) -> Result<(), VolumeError> {
    match wanted {
        "" => Ok(()),
        "DirectoryOrCreate" => {
            if !exists(path)? {
                make_directory(path)?;
            }
            must(path, "directory", FileType::is_dir)
        }
        "FileOrCreate" => {
            if !exists(path)? {
                make_file(path)?;
            }
            must(path, "file", FileType::is_file)
        }
        "Directory" => must(path, "directory", FileType::is_dir),
        "File" => must(path, "file", FileType::is_file),
        "Socket" => must(path, "socket file", FileTypeExt::is_socket),
        "CharDevice" => must(path, "character device", FileTypeExt::is_char_device),
        "BlockDevice" => must(path, "block device", FileTypeExt::is_block_device),
        other => Err(VolumeError::Unsupported {
            what: format!("hostPath type {other}"),
        }),
    }
}

fn exists(path: &Path) -> Result<bool, VolumeError> {
    path.try_exists()
        .map_err(|error| VolumeError::io("stat", path, error))
}

fn make_directory(path: &Path) -> Result<(), VolumeError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|error| VolumeError::io("create", path, error))
}

fn make_file(path: &Path) -> Result<(), VolumeError> {
    File::create_new(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o644)))
        .map_err(|error| VolumeError::io("create", path, error))
}

fn must(path: &Path, wanted: &'static str, is: impl Fn(&FileType) -> bool) -> Result<(), VolumeError> {
    let found = match fs::metadata(path) {
        Ok(metadata) => is(&metadata.file_type()),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(VolumeError::io("stat", path, error)),
    };
    match found {
        true => Ok(()),
        false => Err(VolumeError::HostPathType {
            path: path.display().to_string(),
            wanted,
        }),
    }
}
