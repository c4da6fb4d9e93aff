//! No request costs more instructions or allocations than is written down, see `bench/instructions`.

use std::path::Path;
use std::process::Command;

/// Counted under valgrind, so it does not matter what else the machine does.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the figures are those of one processor")]
fn no_hot_path_has_become_longer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let checked = Command::new(root.join("bench/instructions")).arg("--check").output().expect("Python is there");
    let (told, failed) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{told}{failed}");
    assert_eq!(told.lines().count(), 4, "a line for each of three requests behind the heading: {told}");
}
