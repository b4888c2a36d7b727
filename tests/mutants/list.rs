//! The list of planted bugs fits the code, and has one at least for each finding and each part that it guards.

use hunhe_tests::{mutants, project_dir};

#[test]
fn each_planted_bug_has_its_place_in_the_code_and_a_test_that_must_notice_it() {
    let list = mutants::read(&project_dir()).unwrap_or_else(|error| panic!("{error}"));
    let faults = mutants::faults(&project_dir(), &list);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
