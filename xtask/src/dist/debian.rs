//! The Debian package, deb(5).

use std::fmt::Write as _;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::Dist;
use super::archive::{Entry, ar, tar_gz};

/// Scripts of the package, run by dpkg.
const SCRIPTS: [&str; 3] = ["postinst", "postrm", "prerm"];

/// Name and content of the package.
pub fn package(dist: &Dist<'_>) -> anyhow::Result<(String, Vec<u8>)> {
    let files = files(dist)?;
    let control = control_files(dist, &files)?;
    let members = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", tar_gz(control, dist.time)?),
        ("data.tar.gz", tar_gz(files, dist.time)?),
    ];
    let name = format!("knode_{}_{}.deb", dist.version, dist.binary.machine.debian);
    Ok((name, ar(&members, dist.time)?))
}

fn files(dist: &Dist<'_>) -> anyhow::Result<Vec<Entry>> {
    let doc = "usr/share/doc/knode";
    let mut all = vec![
        Entry::file("usr/bin/knode", 0o755, dist.binary.bytes.clone()),
        Entry::file(format!("{doc}/README.md"), 0o644, dist.read("README.md")?),
        Entry::file(format!("{doc}/copyright"), 0o644, dist.read("LICENSE")?),
        Entry::file(
            format!("{doc}/differences.md"),
            0o644,
            dist.read("docs/differences.md")?,
        ),
    ];
    all.extend(dist.units("usr/lib/systemd/system", "/usr/bin/knode")?);
    all.extend(dist.defaults("etc/default")?);
    all.extend(dist.kernel("usr/lib")?);
    Ok(all)
}

fn control_files(dist: &Dist<'_>, files: &[Entry]) -> anyhow::Result<Vec<Entry>> {
    let configuration = files.iter().filter(|file| file.path.starts_with("etc"));
    let configuration: String = configuration
        .map(|file| format!("/{}\n", file.path.display()))
        .collect();
    let mut all = vec![
        Entry::file("control", 0o644, control(dist, files).into_bytes()),
        Entry::file("conffiles", 0o644, configuration.into_bytes()),
        Entry::file("md5sums", 0o644, sums(files)?.into_bytes()),
    ];
    for script in SCRIPTS {
        all.push(Entry::file(
            script,
            0o755,
            dist.read(&format!("packaging/debian/{script}"))?,
        ));
    }
    Ok(all)
}

fn control(dist: &Dist<'_>, files: &[Entry]) -> String {
    let size: usize = files.iter().map(|file| file.bytes.len().div_ceil(1024)).sum();
    format!(
        "Package: knode\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: knode <root@localhost>\n\
         Installed-Size: {size}\n\
         Depends: {}\n\
         Recommends: ca-certificates\n\
         Suggests: kubernetes-client\n\
         Section: admin\n\
         Priority: optional\n\
         Description: Kubernetes node in one binary\n \
         Container engine, kubelet, flannel-compatible overlay network and service\n \
         proxy, with a control plane of its own when there is no other. Nothing is\n \
         started or enabled by installing it.\n",
        dist.version,
        dist.binary.machine.debian,
        dist.binary.needs.join(", ")
    )
}

/// What `dpkg --verify` compares with. Configuration files are left out, as dpkg keeps their sums itself.
fn sums(files: &[Entry]) -> anyhow::Result<String> {
    let mut text = String::new();
    for file in files.iter().filter(|file| !file.path.starts_with("etc")) {
        let sum = md5(&file.bytes)?;
        writeln!(text, "{sum}  {}", file.path.display())?;
    }
    Ok(text)
}

fn md5(bytes: &[u8]) -> anyhow::Result<String> {
    let mut child = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run md5sum")?;
    let mut input = child.stdin.take().context("md5sum has no input")?;
    input.write_all(bytes).context("write to md5sum")?;
    drop(input);
    let out = child.wait_with_output().context("wait for md5sum")?;
    ensure!(out.status.success(), "md5sum: {}", out.status);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}
