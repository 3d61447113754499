use std::io::Read;
use std::path::Path;

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_newest_stay_and_all_but_them_are_compressed_or_go() {
    type Row<'a> = (&'a [&'a str], usize, &'a [&'a str], &'a [&'a str]);
    let table: [Row; 6] = [
        (&[], 5, &[], &[]),
        (&["0.log.1"], 5, &[], &["0.log.1"]),
        (&["0.log.2", "0.log.1.gz"], 5, &[], &["0.log.2"]),
        (
            &["0.log.1.gz", "0.log.2.gz", "0.log.3.gz", "0.log.4"],
            5,
            &["0.log.1.gz"],
            &["0.log.4"],
        ),
        // A compression that broke off, and one whose original was not removed any more.
        (
            &["0.log.1", "0.log.1.gz", "0.log.2.tmp", "0.log.2"],
            5,
            &["0.log.1", "0.log.2.tmp"],
            &["0.log.2"],
        ),
        (&["0.log.1.gz", "0.log.2"], 2, &["0.log.1.gz", "0.log.2"], &[]),
    ];
    for (rotated, max_files, remove, compress) in table {
        let got = tidy(names(rotated), max_files);
        let wanted = Tidying {
            remove: names(remove),
            compress: names(compress),
        };
        assert_eq!(got, wanted, "{rotated:?} with {max_files} files");
    }
}

#[test]
fn a_rotated_log_bears_its_time() {
    let at = "2026-11-22T14:05:06.7Z".parse().unwrap();
    assert_eq!(rotated_name("0.log", at), "0.log.20261122-140506");
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).unwrap();
}

#[test]
fn files_are_compressed_whole_and_the_log_goes_out_of_the_way() {
    let directory = std::env::temp_dir().join(format!("knode-logs-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    write(&directory, "0.log", "new");
    write(&directory, "0.log.20260101-000000", &"old\n".repeat(1000));
    write(&directory, "1.log", "another's");
    let log = directory.join("0.log");
    let at = "2026-11-22T14:05:06Z".parse().unwrap();
    let moved = rotate::move_away(&log, 5, at).unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "new");
    let packed = std::fs::File::open(directory.join("0.log.20260101-000000.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "old\n".repeat(1000));
    write(&directory, "0.log", "newer");
    let again = rotate::move_away(&log, 5, at).unwrap();
    assert!(
        again.is_none(),
        "a second rotation within a second takes a log's place"
    );
    remove_all(&log).unwrap();
    let left: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(left, ["1.log"]);
}
