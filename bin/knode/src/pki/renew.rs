//! Renewing what lies in files.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use knode_pki::inventory::{Found, Inventory, scan};
use knode_pki::kubeconfig::{Kubeconfig, Material};
use knode_pki::{
    AuthorityFiles, CA_LIFETIME, CertificateAuthority, LIFETIME, Profile, files, pem_certificates,
};

use super::cli::RenewArgs;
use super::make::{key_file, write_pair};

/// An authority that can sign, with its files.
struct Known {
    files: AuthorityFiles,
    authority: CertificateAuthority,
}

/// One run of `knode pki renew`.
struct Renewal<'a> {
    args: &'a RenewArgs,
    inventory: Inventory,
    known: Vec<Known>,
    now: Timestamp,
    done: Vec<String>,
}

/// Renews what is asked for.
pub fn renew(args: &RenewArgs, now: Timestamp) -> anyhow::Result<Vec<String>> {
    let dir = std::path::absolute(&args.place.dir)?;
    let inventory = scan(&[dir]).context("look for certificates")?;
    let known = authorities(&inventory)?;
    anyhow::ensure!(
        !known.is_empty(),
        "no authority with its key in {}: certificates are renewed where they are signed",
        args.place.dir.display()
    );
    let mut renewal = Renewal {
        args,
        inventory,
        known,
        now,
        done: Vec::new(),
    };
    for what in &args.what {
        renewal.one(what)?;
    }
    Ok(renewal.done)
}

fn authorities(inventory: &Inventory) -> anyhow::Result<Vec<Known>> {
    let mut known: Vec<Known> = Vec::new();
    for found in inventory.found.iter().filter(|f| f.certificate.is_ca) {
        let place = authority_place(&found.file);
        if !place.key.exists() || known.iter().any(|k| k.files == place) {
            continue;
        }
        let authority = CertificateAuthority::load_files(&place)
            .with_context(|| format!("use the authority {}", place.cert.display()))?;
        known.push(Known {
            files: place,
            authority,
        });
    }
    Ok(known)
}

fn authority_place(cert: &Path) -> AuthorityFiles {
    let stem = cert.file_stem().unwrap_or_default().to_string_lossy();
    let ending = cert.extension().unwrap_or_default().to_string_lossy();
    AuthorityFiles {
        cert: cert.to_owned(),
        key: key_file(cert),
        chain: cert.with_file_name(format!("{stem}-chain.{ending}")),
    }
}

/// Whether a file is meant by a path, its name, or its name without the ending.
fn is_meant(file: &Path, what: &str) -> bool {
    file == Path::new(what) || file.ends_with(what) || file.with_extension("").ends_with(what)
}

impl Renewal<'_> {
    fn one(&mut self, what: &str) -> anyhow::Result<()> {
        if what == "all" {
            for found in self.leaves(|found| !is_kubelets(found)) {
                if self.signer(&found).is_some() {
                    self.leaf(&found)?;
                }
            }
            return Ok(());
        }
        if let Some(at) = self.known.iter().position(|k| is_meant(&k.files.cert, what)) {
            return self.authority(at);
        }
        let meant = self.leaves(|found| is_meant(&found.file, what));
        anyhow::ensure!(
            !meant.is_empty(),
            "{}: no certificate {what:?}",
            self.args.place.dir.display()
        );
        for found in meant {
            anyhow::ensure!(
                !is_kubelets(&found),
                "{} is renewed by the kubelet itself; take it away and start the node to get another one",
                found.file.display()
            );
            self.leaf(&found)?;
        }
        Ok(())
    }

    fn leaves(&self, meant: impl Fn(&Found) -> bool) -> Vec<Found> {
        let all = self.inventory.found.iter();
        all.filter(|f| !f.certificate.is_ca && meant(f))
            .cloned()
            .collect()
    }

    fn signer(&self, found: &Found) -> Option<&Known> {
        self.known
            .iter()
            .find(|known| known.authority.signed(&found.certificate))
    }

    /// The same certificate with a new key.
    fn leaf(&mut self, found: &Found) -> anyhow::Result<()> {
        let signer = self
            .signer(found)
            .with_context(|| format!("no authority here has signed {}", found.file.display()))?;
        let authority = signer.authority.clone();
        self.reissue(found, &authority)
    }

    fn reissue(&mut self, found: &Found, authority: &CertificateAuthority) -> anyhow::Result<()> {
        let end = authority.certificate().not_after;
        anyhow::ensure!(
            self.now < end,
            "the authority that signs {} ended at {end}; renew it first: `knode pki renew ca`",
            found.file.display()
        );
        if let Some(key) = &found.key {
            files::read_private(key)?;
        }
        let old = &found.certificate;
        let profile = Profile {
            subject: old.subject.clone(),
            names: old.names.clone(),
            usages: old.usages.clone(),
            lifetime: self.args.validity.unwrap_or(LIFETIME),
        };
        let identity = authority.issue(&profile, self.now)?;
        if found.kubeconfig {
            let mut kubeconfig = Kubeconfig::load(&found.file)?;
            kubeconfig.replace_identity(&identity);
            kubeconfig.replace_authorities(authority.cert_pem());
            kubeconfig.write(&found.file)?;
        } else {
            write_pair(&identity, &found.file, &key_file(&found.file))?;
        }
        self.done.push(format!("renewed  {}", found.file.display()));
        Ok(())
    }

    fn authority(&mut self, at: usize) -> anyhow::Result<()> {
        let lifetime = self.args.validity.unwrap_or(CA_LIFETIME);
        let known = &self.known[at];
        let (place, old) = (known.files.clone(), known.authority.clone());
        let new = if self.args.distrust_old {
            old.alone()?
        } else if self.args.new_key {
            old.succeeded(lifetime, self.now)?
        } else {
            old.renewed(lifetime, self.now)?
        };
        new.save(&place)?;
        self.done.push(format!("renewed  {}", place.cert.display()));
        if let Some(dir) = place.cert.parent().filter(|dir| dir.join("sa-key.pem").exists()) {
            // Whose directory this is, renews the rest itself, running or at its next start.
            self.done
                .push(format!("knode server takes {} up by itself", dir.display()));
        } else {
            if self.args.new_key {
                for found in self.leaves(|found| old.signed(&found.certificate)) {
                    self.reissue(&found, &new)?;
                }
            }
            for file in self.inventory.kubeconfigs.clone() {
                self.authorities_of(&file, &old, &new)?;
            }
        }
        self.known[at].authority = new;
        self.inventory = scan(&[std::path::absolute(&self.args.place.dir)?])?;
        Ok(())
    }

    /// A kubeconfig that trusts the old authority trusts the new one too.
    fn authorities_of(
        &mut self,
        file: &Path,
        old: &CertificateAuthority,
        new: &CertificateAuthority,
    ) -> anyhow::Result<()> {
        let Some(Material::Data(ca)) = Kubeconfig::load_access(file)?.ca else {
            return Ok(());
        };
        if !pem_certificates(&ca)?.contains(&old.certificate().der) {
            return Ok(());
        }
        let mut kubeconfig = Kubeconfig::load(file)?;
        if kubeconfig.replace_authorities(new.cert_pem()) {
            kubeconfig.write(file)?;
            self.done.push(format!("renewed  {}", file.display()));
        }
        Ok(())
    }
}

/// A kubelet keeps certificate and key in one file and renews both.
fn is_kubelets(found: &Found) -> bool {
    !found.kubeconfig && found.key.as_ref() == Some(&found.file)
}
