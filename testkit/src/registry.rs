//! Debian's `docker-registry` on the loopback of a host.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::hosts::Host;
use crate::image::{Blob, Image};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// A running registry, reachable inside its host only. It stops when dropped.
#[derive(Debug)]
pub struct Registry<'a> {
    host: &'a Host,
    port: u16,
    process: Process,
    scratch: Scratch,
    authorization: Option<String>,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }
}

impl<'a> Registry<'a> {
    /// Starts one with an empty storage of its own and waits until it answers.
    ///
    /// # Panics
    /// When `docker-registry` is not installed or does not come up.
    #[track_caller]
    pub fn start(host: &'a Host) -> Self {
        Self::start_with(host, "")
    }

    /// Starts one that asks for this user and password.
    ///
    /// # Panics
    /// As [`Registry::start`].
    #[track_caller]
    pub fn start_with_password(host: &'a Host, htpasswd_line: &str) -> Self {
        Self::start_with(host, htpasswd_line)
    }

    #[track_caller]
    fn start_with(host: &'a Host, htpasswd: &str) -> Self {
        let scratch = Scratch::new("registry");
        let port = free_port(host);
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            scratch.join("storage").display()
        );
        if !htpasswd.is_empty() {
            write(&scratch, "htpasswd", htpasswd);
            let path = scratch.join("htpasswd");
            config.push_str(&format!(
                "auth:\n  htpasswd: {{realm: test, path: {}}}\n",
                path.display()
            ));
        }
        write(&scratch, "config.yml", &config);
        let path = scratch.join("config.yml").display().to_string();
        let process = host.spawn("registry", "docker-registry", &["serve", &path]);
        let registry = Self {
            host,
            port,
            process,
            scratch,
            authorization: None,
        };
        wait_until(
            "the registry to answer",
            Duration::from_secs(20),
            || match registry.request("GET", "/v2/", &[], &[]) {
                Ok(answer) if answer.status == 200 || answer.status == 401 => Ok(()),
                Ok(answer) => Err(format!("status {}", answer.status)),
                Err(error) => Err(format!("{error}; it printed: {}", registry.process.output())),
            },
        );
        registry
    }

    /// Sends `authorization` with all requests from now on, such as `Basic …`.
    pub fn sign_in(&mut self, authorization: &str) {
        self.authorization = Some(format!("Authorization: {authorization}"));
    }

    /// `127.0.0.1:<port>`: what references of its images begin with.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// The directory of its files, to damage them.
    pub fn storage(&self) -> std::path::PathBuf {
        self.scratch.join("storage/docker/registry/v2")
    }

    /// Pushes an image under its own repository and tag and answers the reference to pull it by.
    ///
    /// # Panics
    /// When the registry refuses.
    #[track_caller]
    pub fn push(&self, image: &Image) -> String {
        let (repository, tag) = image.repository_and_tag();
        self.push_as(image, &repository, &tag)
    }

    /// Pushes an image under a name of choice.
    ///
    /// # Panics
    /// When the registry refuses.
    #[track_caller]
    pub fn push_as(&self, image: &Image, repository: &str, tag: &str) -> String {
        self.push_content(repository, image);
        self.put_manifest(repository, tag, &image.manifest);
        format!("{}/{repository}:{tag}", self.address())
    }

    /// Pushes several images behind an index.
    ///
    /// # Panics
    /// When the registry refuses.
    #[track_caller]
    pub fn push_index(&self, images: &[Image], repository: &str, tag: &str) -> String {
        for image in images {
            self.push_content(repository, image);
            self.put_manifest(repository, &image.manifest.digest, &image.manifest);
        }
        self.put_manifest(repository, tag, &crate::image::index(images));
        format!("{}/{repository}:{tag}", self.address())
    }

    /// Stores a manifest under a tag or digest.
    ///
    /// # Panics
    /// When the registry refuses.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, name: &str, manifest: &Blob) {
        let path = format!("/v2/{repository}/manifests/{name}");
        let kind = format!("Content-Type: {}", manifest.media_type);
        self.expect(201, "PUT", &path, &[&kind], &manifest.bytes);
    }

    #[track_caller]
    fn push_content(&self, repository: &str, image: &Image) {
        for blob in image.layers.iter().chain([&image.config]) {
            let path = format!("/v2/{repository}/blobs/uploads/");
            let started = self.expect(202, "POST", &path, &[], &[]);
            let place = started
                .header("Location")
                .unwrap_or_else(|| panic!("no place to upload to: {started:?}"));
            let place = place
                .split_once("/v2/")
                .map_or(place.to_owned(), |(_, rest)| format!("/v2/{rest}"));
            let join = if place.contains('?') { '&' } else { '?' };
            let path = format!("{place}{join}digest={}", blob.digest);
            self.expect(
                201,
                "PUT",
                &path,
                &["Content-Type: application/octet-stream"],
                &blob.bytes,
            );
        }
    }

    #[track_caller]
    fn expect(&self, status: u16, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let answer = self.request(method, path, headers, body);
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {path}: {text}");
        answer
    }

    /// One request from inside the host.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = self.host.enter(|| TcpStream::connect(("127.0.0.1", self.port)))?;
        // HTTP/1.0: the answer ends with the connection and is never chunked.
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\n", self.address());
        let own = self.authorization.as_deref();
        for header in headers.iter().copied().chain(own) {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| std::io::Error::other("not an HTTP answer"))
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    })
}

#[track_caller]
fn free_port(host: &Host) -> u16 {
    let bound = host.enter(|| TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()));
    bound
        .unwrap_or_else(|error| panic!("no free port: {error}"))
        .port()
}

#[track_caller]
fn write(scratch: &Scratch, name: &str, text: &str) {
    let path = scratch.join(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ImageBuilder, Layer};

    #[test]
    fn a_pushed_image_is_there() {
        let host = Host::new("registry");
        let registry = Registry::start(&host);
        let image = ImageBuilder::new("localhost/test/a:1")
            .layer(Layer::new().file("a", 0o644, "a"))
            .build();
        assert_eq!(registry.push(&image), format!("{}/test/a:1", registry.address()));
        let accept = format!("Accept: {}", crate::image::MANIFEST);
        let answer = registry
            .request("GET", "/v2/test/a/manifests/1", &[&accept], &[])
            .unwrap();
        assert_eq!(answer.body, image.manifest.bytes);
    }
}
