//! `/logs/…`: the machine's log files (upstream: a file server of `/var/log`), read only. What leads out of the
//! directory, as by a link, is not there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncReadExt;

use super::Kubelet;
use super::body::{Answer, TEXT, full, not_found, text};

const HTML: &str = "text/html; charset=utf-8";
/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// What is there.
enum Found {
    File(PathBuf),
    /// Names, those of directories with a slash behind.
    Directory(Vec<String>),
}

pub(super) async fn serve(kubelet: &Kubelet, path: &str) -> Answer {
    if !kubelet.system_logs {
        return text(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled.\n");
    }
    let root = kubelet.pod_logs_dir.parent().unwrap_or(Path::new("/")).to_owned();
    let relative = path.to_owned();
    let found = tokio::task::spawn_blocking(move || find(&root, &relative)).await;
    match found.map_err(io::Error::other).flatten() {
        Ok(Found::File(file)) => stream(&file).await,
        Ok(Found::Directory(_)) if !path.is_empty() && !path.ends_with('/') => redirect(path),
        Ok(Found::Directory(names)) => full(StatusCode::OK, HTML, listing(&names)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => not_found(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn find(root: &Path, relative: &str) -> io::Result<Found> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let root = root.canonicalize()?;
    let path = root.join(relative.trim_start_matches('/')).canonicalize()?;
    if !path.starts_with(&root) {
        return Err(missing());
    }
    let kind = path.metadata()?;
    if kind.is_file() {
        return Ok(Found::File(path));
    }
    if !kind.is_dir() {
        return Err(missing());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&path)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_directory = entry.path().is_dir();
        names.push(if is_directory { name + "/" } else { name });
    }
    names.sort();
    Ok(Found::Directory(names))
}

/// Relative names in a listing count from the directory.
fn redirect(path: &str) -> Answer {
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut answer = text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(to) = HeaderValue::from_str(&format!("{}/", encoded(last))) {
        answer.headers_mut().insert(LOCATION, to);
    }
    answer
}

fn listing(names: &[String]) -> String {
    let line = |name: &String| format!("<a href=\"{}\">{}</a>\n", encoded(name), escaped(name));
    format!("<pre>\n{}</pre>\n", names.iter().map(line).collect::<String>())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
}

fn encoded(name: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let one = |byte: u8| match keep(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(one).collect()
}

async fn stream(path: &Path) -> Answer {
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return not_found(),
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let pieces = futures::stream::try_unfold(file, |mut file| async move {
        let mut buffer = bytes::BytesMut::with_capacity(PIECE);
        let count = file.read_buf(&mut buffer).await?;
        Ok((count > 0).then(|| (Frame::data(buffer.freeze()), file)))
    });
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces)));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_logs_is_found() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("log");
        fs::create_dir_all(root.join("pods")).unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        fs::write(root.join("pods/a b.log"), "x").unwrap();
        std::os::unix::fs::symlink("pods/a b.log", root.join("inside")).unwrap();
        std::os::unix::fs::symlink("../secret", root.join("outside")).unwrap();
        let is_file = |path: &str| matches!(find(&root, path), Ok(Found::File(_)));
        assert!(is_file("pods/a b.log") && is_file("inside"));
        for path in ["outside", "../secret", "/../secret", "pods/../../secret", "none"] {
            assert!(find(&root, path).is_err(), "{path}");
        }
        let Ok(Found::Directory(names)) = find(&root, "") else {
            panic!("a directory")
        };
        assert_eq!(names, ["inside", "outside", "pods/"]);
        assert_eq!(
            listing(&["a b<.log".to_owned()]),
            "<pre>\n<a href=\"a%20b%3C.log\">a b&lt;.log</a>\n</pre>\n"
        );
    }
}
