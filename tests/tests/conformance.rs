//! What upstream's node conformance tests ask of a kubelet, many pods at once on one machine. Which behaviour is covered
//! where stands in `tests/data/conformance.txt`; a test holds that table. Over the engine and over containerd.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod conformance {
    mod cases;
    mod pods;
    mod table;
}
