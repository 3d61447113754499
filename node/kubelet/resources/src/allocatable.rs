//! What of the machine is for pods, and which cgroups hold everybody to their part
//! (upstream: `pkg/kubelet/cm/node_container_manager_linux.go`).

use std::collections::BTreeMap;

use knode_api::quantity::Quantity;

/// Amounts of what can be reserved (`systemReserved`, `kubeReserved`), or that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a processor.
    pub milli_cpu: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the file system with the kubelet's directory.
    pub storage: u64,
    /// Processes.
    pub pids: u64,
    /// Bytes by size of the page.
    pub huge_pages: BTreeMap<u64, u64>,
}

/// A reservation that cannot be read, or an enforcement that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AllocatableError {
    #[error("{field}: cannot reserve {name:?}")]
    Resource { field: &'static str, name: String },
    #[error("{field}: {name}: {value:?} is no quantity, or less than nothing")]
    Value {
        field: &'static str,
        name: String,
        value: String,
    },
    #[error(
        "option {0:?} specified for enforceNodeAllocatable; known: pods, system-reserved, system-reserved-compressible, kube-reserved, kube-reserved-compressible, none"
    )]
    Option(String),
    #[error("enforceNodeAllocatable: {0} and {1} can't be together")]
    Both(&'static str, &'static str),
    #[error("{cgroup} must be specified when {option:?} contained in enforceNodeAllocatable")]
    NoCgroup {
        cgroup: &'static str,
        option: &'static str,
    },
    #[error(
        "invalid node allocatable configuration: resource {resource:?} has a reservation of {reserved}, capacity of {capacity}"
    )]
    TooMuch {
        resource: &'static str,
        reserved: u64,
        capacity: u64,
    },
}

impl Amounts {
    /// Reads a field of the configuration.
    ///
    /// # Errors
    /// [`AllocatableError`], naming the resource.
    pub fn parse(field: &'static str, map: &BTreeMap<String, String>) -> Result<Self, AllocatableError> {
        let mut all = Self::default();
        for (name, value) in map {
            let wrong = || AllocatableError::Value {
                field,
                name: name.clone(),
                value: value.clone(),
            };
            let quantity = Quantity::parse(value).map_err(|_| wrong())?;
            let number = |amount: i64| u64::try_from(amount).map_err(|_| wrong());
            match name.as_str() {
                "cpu" => all.milli_cpu = number(quantity.milli_value())?,
                "memory" => all.memory = number(quantity.value())?,
                "ephemeral-storage" => all.storage = number(quantity.value())?,
                "pid" => all.pids = number(quantity.value())?,
                _ => {
                    let name = name.clone();
                    return Err(AllocatableError::Resource { field, name });
                }
            }
        }
        Ok(all)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut huge_pages = self.huge_pages.clone();
        for (size, bytes) in &other.huge_pages {
            *huge_pages.entry(*size).or_insert(0) += bytes;
        }
        Self {
            milli_cpu: self.milli_cpu.saturating_add(other.milli_cpu),
            memory: self.memory.saturating_add(other.memory),
            storage: self.storage.saturating_add(other.storage),
            pids: self.pids.saturating_add(other.pids),
            huge_pages,
        }
    }

    /// What is left of this capacity beside a reservation; huge pages are no memory.
    #[must_use]
    pub fn left(&self, reserved: &Self) -> Self {
        let huge: u64 = self.huge_pages.values().sum();
        Self {
            milli_cpu: self.milli_cpu.saturating_sub(reserved.milli_cpu),
            memory: self.memory.saturating_sub(reserved.memory).saturating_sub(huge),
            storage: self.storage.saturating_sub(reserved.storage),
            pids: self.pids.saturating_sub(reserved.pids),
            huge_pages: self.huge_pages.clone(),
        }
    }

    /// Whether a reservation fits into this capacity.
    ///
    /// # Errors
    /// [`AllocatableError::TooMuch`].
    pub fn holds(&self, reserved: &Self) -> Result<(), AllocatableError> {
        let pairs = [
            ("cpu", reserved.milli_cpu, self.milli_cpu),
            ("memory", reserved.memory, self.memory),
            ("ephemeral-storage", reserved.storage, self.storage),
            ("pid", reserved.pids, self.pids),
        ];
        match pairs
            .into_iter()
            .find(|(_, reserved, capacity)| reserved > capacity)
        {
            None => Ok(()),
            Some((resource, reserved, capacity)) => Err(AllocatableError::TooMuch {
                resource,
                reserved,
                capacity,
            }),
        }
    }
}

/// Who is held to a part (`enforceNodeAllocatable`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// `pods`: all pods together have what is not reserved.
    pub pods: bool,
    /// `system-reserved`: the cgroup, and whether only its processors are limited.
    pub system: Option<(String, bool)>,
    /// `kube-reserved`.
    pub kube: Option<(String, bool)>,
}

impl Enforcement {
    /// Reads the list, with `systemReservedCgroup` and `kubeReservedCgroup`.
    ///
    /// # Errors
    /// [`AllocatableError`].
    pub fn parse(list: &[String], system: &str, kube: &str) -> Result<Self, AllocatableError> {
        let has = |word: &str| list.iter().any(|one| one == word);
        let known = [
            "pods",
            "none",
            "system-reserved",
            "system-reserved-compressible",
            "kube-reserved",
            "kube-reserved-compressible",
        ];
        if let Some(unknown) = list.iter().find(|one| !known.contains(&one.as_str())) {
            return Err(AllocatableError::Option(unknown.clone()));
        }
        if has("none") && list.len() > 1 {
            return Err(AllocatableError::Both("none", "others"));
        }
        let part = |whole: &'static str, some: &'static str, field: &'static str, cgroup: &str| {
            let option = match (has(whole), has(some)) {
                (false, false) => return Ok(None),
                (true, true) => return Err(AllocatableError::Both(whole, some)),
                (true, false) => whole,
                (false, true) => some,
            };
            match cgroup.is_empty() {
                true => Err(AllocatableError::NoCgroup {
                    cgroup: field,
                    option,
                }),
                false => Ok(Some((cgroup.to_owned(), option == some))),
            }
        };
        Ok(Self {
            pods: has("pods"),
            system: part(
                "system-reserved",
                "system-reserved-compressible",
                "systemReservedCgroup",
                system,
            )?,
            kube: part(
                "kube-reserved",
                "kube-reserved-compressible",
                "kubeReservedCgroup",
                kube,
            )?,
        })
    }
}

/// A cgroup and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name from the root of the hierarchy.
    pub name: String,
    /// Whether it must be there already.
    pub existing: bool,
    /// `cpu.shares`.
    pub shares: u64,
    /// Bytes; none leaves it.
    pub memory: Option<u64>,
    /// Processes; none leaves it.
    pub pids: Option<u64>,
    /// Bytes by size of the page; none is left out.
    pub huge_pages: BTreeMap<u64, u64>,
    /// What the Event says once it has them.
    pub done: String,
    /// How the Event begins that says why it has not.
    pub failed: String,
}

/// The groups that are to be limited: that of all pods always, as a group begins with the shares of one processor.
pub fn groups(
    cgroup_root: &str,
    capacity: &Amounts,
    (system, kube): (&Amounts, &Amounts),
    enforce: &Enforcement,
) -> Vec<Group> {
    let reserved = match enforce.pods {
        true => system.plus(kube),
        false => Amounts::default(),
    };
    let pods = format!("{}/kubepods", cgroup_root.trim_end_matches('/'));
    let mut all = vec![Group {
        done: "Updated Node Allocatable limit across pods".to_owned(),
        failed: format!("Failed to update Node Allocatable Limits {pods:?}"),
        ..group(pods, &capacity.left(&reserved), false)
    }];
    let parts = [
        (&enforce.system, system, "system", "System"),
        (&enforce.kube, kube, "kube", "Kube"),
    ];
    for (part, amounts, word, title) in parts {
        if let Some((name, compressible)) = part {
            all.push(Group {
                existing: true,
                done: format!("Updated limits on {word} reserved cgroup {name}"),
                failed: format!("Failed to enforce {title} Reserved Cgroup Limits on {name:?}"),
                ..group(name.clone(), amounts, *compressible)
            });
        }
    }
    all
}

fn group(name: String, amounts: &Amounts, compressible: bool) -> Group {
    let some = |amount: u64| Some(amount).filter(|amount| *amount > 0 && !compressible);
    Group {
        name,
        shares: (amounts.milli_cpu * 1024 / 1000).clamp(2, 262_144),
        memory: some(amounts.memory),
        pids: some(amounts.pids),
        huge_pages: match compressible {
            true => BTreeMap::new(),
            false => amounts.huge_pages.clone(),
        },
        ..Group::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn pods_have_what_is_not_reserved() {
        let capacity = Amounts {
            milli_cpu: 4000,
            memory: 8 << 30,
            storage: 100,
            pids: 1000,
            huge_pages: BTreeMap::from([(2 << 20, 1 << 30)]),
        };
        let system = Amounts::parse(
            "systemReserved",
            &map(&[("cpu", "500m"), ("memory", "1Gi"), ("pid", "100")]),
        )
        .unwrap();
        let kube = Amounts::parse("kubeReserved", &map(&[("cpu", "500m"), ("memory", "1Gi")])).unwrap();
        let enforce = Enforcement::parse(
            &words(&["pods", "system-reserved-compressible", "kube-reserved"]),
            "/sys",
            "/kube",
        )
        .unwrap();
        let groups = groups("/root/", &capacity, (&system, &kube), &enforce);
        let seen: Vec<_> = groups
            .iter()
            .map(|one| (one.name.as_str(), one.shares, one.memory, one.pids))
            .collect();
        assert_eq!(
            seen,
            [
                ("/root/kubepods", 3072, Some(5 << 30), Some(900)),
                ("/sys", 512, None, None),
                ("/kube", 512, Some(1 << 30), None),
            ]
        );
        assert_eq!(groups[0].huge_pages, capacity.huge_pages);
        let free = super::groups("/", &capacity, (&system, &kube), &Enforcement::default());
        assert_eq!(
            (free.len(), free[0].shares, free[0].memory),
            (1, 4096, Some(7 << 30))
        );
        assert!(capacity.holds(&system.plus(&kube)).is_ok());
        let much = Amounts {
            memory: 9 << 30,
            ..Amounts::default()
        };
        assert!(capacity.holds(&much).unwrap_err().to_string().contains("memory"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let wrong = |list: &[&str]| Enforcement::parse(&words(list), "", "").unwrap_err().to_string();
        assert!(wrong(&["system-reserved"]).contains("systemReservedCgroup"));
        assert!(wrong(&["all"]).contains("\"all\""));
        assert!(wrong(&["none", "pods"]).contains("none"));
        assert!(Amounts::parse("kubeReserved", &map(&[("gpu", "1")])).is_err());
        assert!(Amounts::parse("kubeReserved", &map(&[("cpu", "-1")])).is_err());
    }
}
