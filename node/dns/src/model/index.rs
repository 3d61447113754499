use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use super::Name;

/// From addresses to names; an address nearly always has one.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(HashMap<IpAddr, Names>);

#[derive(Clone, Debug)]
enum Names {
    One([Name; 1]),
    Many(Vec<Name>),
}

impl Names {
    fn as_slice(&self) -> &[Name] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

impl Index {
    pub fn at(&self, ip: IpAddr) -> &[Name] {
        self.0.get(&ip).map(Names::as_slice).unwrap_or_default()
    }

    /// Adds a name, once.
    pub fn add(&mut self, ip: IpAddr, name: &Name) {
        match self.0.entry(ip) {
            Entry::Vacant(vacant) => {
                vacant.insert(Names::One([name.clone()]));
            }
            Entry::Occupied(mut occupied) => {
                let mut names = occupied.get().as_slice().to_vec();
                if let Err(at) = names.binary_search(name) {
                    names.insert(at, name.clone());
                    occupied.insert(Names::Many(names));
                }
            }
        }
    }

    pub fn remove(&mut self, ip: IpAddr, name: &Name) {
        let Some(names) = self.0.get_mut(&ip) else {
            return;
        };
        let mut left: Vec<Name> = names.as_slice().to_vec();
        left.retain(|known| known != name);
        match left.len() {
            0 => {
                self.0.remove(&ip);
            }
            1 => *names = Names::One([left.swap_remove(0)]),
            _ => *names = Names::Many(left),
        }
    }
}
