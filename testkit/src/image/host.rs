//! Images of programs that this machine has from Debian.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{ImageBuilder, Layer};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs that the busybox image has under their own names.
const APPLETS: [&str; 40] = [
    "sh", "ash", "cat", "ls", "echo", "sleep", "true", "false", "nc", "env", "id", "ps", "kill", "grep",
    "head", "tail", "wc", "dd", "mkdir", "rm", "cp", "mv", "ln", "touch", "date", "hostname", "ip", "ping",
    "stat", "test", "printf", "seq", "sort", "sync", "mount", "df", "chmod", "sed", "awk", "nslookup",
];

/// Debian's static busybox with links for its usual programs, `/tmp`, and users `root` and `nobody`. Runs `sh`.
/// Its `wget` crashes inside containers: use `nc`.
///
/// # Panics
/// When `busybox-static` is not installed.
#[track_caller]
pub fn busybox() -> ImageBuilder {
    ImageBuilder::new("localhost/test/busybox:1")
        .layer(busybox_layer())
        .set("Env", json!([PATH]))
        .cmd(&["sh"])
}

#[track_caller]
fn busybox_layer() -> Layer {
    let layer = Layer::new()
        .dir("bin", 0o755)
        .host_file(
            program(&["/usr/bin/busybox", "/bin/busybox"], "busybox-static"),
            "bin/busybox",
        )
        .dir("etc", 0o755)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")
        .dir("root", 0o700)
        .dir("tmp", 0o1777)
        .dir("proc", 0o555)
        .dir("sys", 0o555)
        .dir("dev", 0o755);
    APPLETS.iter().fold(layer, |layer, name| {
        layer.symlink(&format!("bin/{name}"), "busybox")
    })
}

/// A real nginx from Debian's package in three layers: busybox, the libraries, and nginx with its configuration and
/// page. Logs go to standard output and error, it runs in the foreground on port 80, `SIGQUIT` stops it.
///
/// # Panics
/// When `nginx` or `busybox-static` is not installed.
#[track_caller]
pub fn nginx() -> ImageBuilder {
    let nginx = program(&["/usr/sbin/nginx"], "nginx");
    ImageBuilder::new("localhost/test/nginx:1")
        .layer(busybox_layer())
        .layer(libraries(&nginx))
        .layer(nginx_layer(&nginx))
        .set("Env", json!([PATH]))
        .set("ExposedPorts", json!({"80/tcp": {}}))
        .set("StopSignal", "SIGQUIT")
        .cmd(&["/usr/sbin/nginx", "-g", "daemon off;"])
}

#[track_caller]
fn program(places: &[&str], package: &str) -> PathBuf {
    let found = places.iter().map(Path::new).find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("none of {places:?} is here: install {package}"))
        .to_owned()
}

/// The shared libraries that the loader would use for a program, at the same places.
#[track_caller]
fn libraries(program: &Path) -> Layer {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .unwrap_or_else(|error| panic!("cannot run ldd: {error}"));
    assert!(
        output.status.success(),
        "ldd {}: {}",
        program.display(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let mut layer = Layer::new()
        .dir("lib", 0o755)
        .dir("lib/x86_64-linux-gnu", 0o755)
        .dir("lib64", 0o755);
    // The accounts database needs these at run time, without the program being linked to them.
    let later = ["/lib/x86_64-linux-gnu/libnss_files.so.2"]
        .into_iter()
        .filter(|path| Path::new(path).exists());
    for path in paths.chain(later) {
        layer = layer.host_file(path, path.trim_start_matches('/'));
    }
    layer
}

#[track_caller]
fn nginx_layer(nginx: &Path) -> Layer {
    Layer::new()
        .dir("usr", 0o755)
        .dir("usr/sbin", 0o755)
        .host_file(nginx, "usr/sbin/nginx")
        .dir("etc", 0o755)
        .dir("etc/nginx", 0o755)
        .host_file("/etc/nginx/mime.types", "etc/nginx/mime.types")
        .file("etc/nginx/nginx.conf", 0o644, NGINX_CONF)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nwww-data:x:33:\n")
        .dir("var", 0o755)
        .dir("var/www", 0o755)
        .file("var/www/index.html", 0o644, PAGE)
        .dir("var/lib", 0o755)
        .dir("var/lib/nginx", 0o755)
        .dir("var/log", 0o755)
        .dir("var/log/nginx", 0o755)
        .symlink("var/log/nginx/access.log", "/dev/stdout")
        .symlink("var/log/nginx/error.log", "/dev/stderr")
        .dir("run", 0o755)
}

const NGINX_CONF: &str = "\
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    server {
        listen 80 default_server;
        root /var/www;
        location = /healthz { return 200 \"ok\\n\"; }
        location = /whoami { return 200 \"$hostname $remote_addr\\n\"; }
    }
}
";

const PAGE: &str = "<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body><h1>Welcome to nginx!</h1></body>
</html>
";
