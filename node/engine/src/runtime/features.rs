//! What OCI runtimes say of themselves: `features` of the runtime specification.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use knode_cri::RuntimeHandlerFeatures;
use serde::Deserialize;

use super::OciProgram;

/// How long a program may take to say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The part of a runtime's answer that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Features {
    mount_options: Vec<String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    namespaces: Vec<String>,
    mount_extensions: MountExtensions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MountExtensions {
    idmap: Idmap,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Idmap {
    enabled: bool,
}

/// Asks every program. One that knows no such command is taken to have no features, as by containerd.
pub(super) async fn ask(programs: BTreeMap<String, OciProgram>) -> BTreeMap<String, RuntimeHandlerFeatures> {
    let each = programs.into_iter().map(|(handler, program)| async move {
        let features = match answer(&program).await {
            Ok(text) => read(&text),
            Err(error) => {
                tracing::debug!(handler, %error, "a runtime does not say what it can do");
                RuntimeHandlerFeatures::default()
            }
        };
        (handler, features)
    });
    join_all(each).await.into_iter().collect()
}

async fn answer(program: &OciProgram) -> std::io::Result<Vec<u8>> {
    let mut command = tokio::process::Command::new(&program.path);
    command
        .args(&program.options)
        .arg("features")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await??;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(std::io::Error::other(output.status.to_string()))
    }
}

fn read(text: &[u8]) -> RuntimeHandlerFeatures {
    // What cannot be read says nothing.
    let features: Features = serde_json::from_slice(text).unwrap_or_default();
    let has = |list: &[String], name: &str| list.iter().any(|one| one == name);
    RuntimeHandlerFeatures {
        recursive_read_only_mounts: has(&features.mount_options, "rro"),
        user_namespaces: has(&features.linux.namespaces, "user")
            && features.linux.mount_extensions.idmap.enabled,
    }
}

pub(super) fn is_executable(path: &Path) -> bool {
    let meta = std::fs::metadata(path);
    path.is_absolute() && meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_as_runtimes_print_them() {
        let runc =
            br#"{"ociVersionMin":"1.0.0","mountOptions":["ro","rro"],"linux":{"namespaces":["user"]}}"#;
        let expected = RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: false,
        };
        assert_eq!(read(runc), expected);
        let newer =
            br#"{"linux":{"namespaces":["pid","user"],"mountExtensions":{"idmap":{"enabled":true}}}}"#;
        assert!(read(newer).user_namespaces);
        assert_eq!(read(b"usage: ..."), RuntimeHandlerFeatures::default());
    }
}
