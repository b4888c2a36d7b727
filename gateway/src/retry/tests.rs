use super::*;
use proptest::prelude::*;

fn status(code: u16, body: &str) -> Answer<'_> {
    Answer::Status { code, retry_after_s: None, body }
}

/// Plays a database that refuses some lines, counting requests; returns what was refused.
fn play(total: usize, bad: &[usize]) -> (Vec<usize>, usize) {
    let mut delivery = Delivery::new(total, 0);
    let (mut taken, mut requests) = (Vec::new(), 0);
    while let Some(lines) = delivery.lines() {
        requests += 1;
        let refuses = lines.clone().any(|line| bad.contains(&line));
        let answer = if refuses { status(400, "unable to parse") } else { status(204, "") };
        if !refuses {
            taken.extend(lines);
        }
        assert!(matches!(delivery.answered(&answer, 0), Step::Send | Step::Done));
    }
    taken.sort_unstable();
    let expected: Vec<usize> = (0..total).filter(|line| !bad.contains(line)).collect();
    assert_eq!(taken, expected, "every good line is taken exactly once");
    (delivery.into_refused().into_iter().map(|refused| refused.line).collect(), requests)
}

#[test]
fn each_answer_is_judged_as_the_table_says() {
    use Verdict::*;
    let partial = r#"{"error":"partial write: field type conflict: dropped=1"}"#;
    let cases = [
        (status(204, ""), Taken),
        (status(200, "<html>"), Misconfigured),
        (status(301, ""), Misconfigured),
        (status(400, "bad"), BadLine),
        (status(401, "unauthorized"), Misconfigured),
        (status(403, ""), Misconfigured),
        (status(404, "bucket not found"), Misconfigured),
        (status(405, ""), Misconfigured),
        (status(408, ""), Later),
        (status(413, ""), TooLarge),
        (status(422, partial), BadLine),
        (status(429, ""), Later),
        (status(500, ""), Later),
        (status(500, partial), BadLine),
        (status(500, "points beyond retention policy dropped"), BadLine),
        (status(501, ""), Misconfigured),
        (status(502, ""), Later),
        (status(503, ""), Later),
        (status(504, ""), Later),
        (Answer::None("connection refused"), Later),
    ];
    for (answer, verdict) in cases {
        assert_eq!(answer.verdict(), verdict, "{answer:?}");
    }
}

#[test]
fn one_bad_line_of_ten_thousand_is_found_in_thirty_requests() {
    let (refused, requests) = play(10_000, &[7_777]);
    assert_eq!(refused, [7_777]);
    assert!(requests <= 30, "{requests} requests");
}

#[test]
fn retry_after_is_honoured_up_to_a_bound() {
    let mut delivery = Delivery::new(1, 0);
    let wait = |delivery: &mut Delivery, seconds| {
        let answer = Answer::Status { code: 429, retry_after_s: Some(seconds), body: "" };
        match delivery.answered(&answer, 17) {
            Step::Wait { wait_ms, held: false } => wait_ms,
            other => panic!("{other:?}"),
        }
    };
    assert!((7_000..8_000).contains(&wait(&mut delivery, 7)));
    assert_eq!(wait(&mut delivery, u64::MAX), WAIT_MS_MAX);
}

#[test]
fn a_wrong_token_holds_everything() {
    let mut delivery = Delivery::new(100, 0);
    for _ in 0..3 {
        assert_eq!(
            delivery.answered(&status(401, "unauthorized"), 0),
            Step::Wait { wait_ms: HELD_MS, held: true }
        );
        assert_eq!(delivery.lines(), Some(0..100));
    }
    assert_eq!(delivery.answered(&status(204, ""), 0), Step::Done);
    assert!(delivery.into_refused().is_empty());
}

#[test]
fn what_is_too_large_is_split_and_a_single_line_too_large_is_refused() {
    let mut delivery = Delivery::new(3, 0);
    let mut sent = Vec::new();
    while let Some(lines) = delivery.lines() {
        sent.push(lines.clone());
        let fits = lines.len() == 1 && lines.start != 1;
        delivery.answered(&status(if fits { 204 } else { 413 }, "too large"), 0);
    }
    assert_eq!(sent, [0..3, 0..1, 1..3, 1..2, 2..3]);
    assert!(delivery.was_too_large());
    let refused = delivery.into_refused();
    assert_eq!(refused, [RefusedLine { line: 1, words: "413 too large".into() }]);
}

#[test]
fn a_database_that_refuses_everything_gets_nothing_thrown_away() {
    let mut delivery = Delivery::new(10_000, 0);
    let mut requests = 0;
    loop {
        requests += 1;
        match delivery.answered(&status(400, "invalid precision"), 0) {
            Step::Send => {}
            Step::Wait { wait_ms: HELD_MS, held: true } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(requests < 200);
    assert_eq!(delivery.lines(), Some(0..10_000));
    // Mended: all is taken, nothing was refused.
    assert_eq!(delivery.answered(&status(204, ""), 0), Step::Done);
    assert!(delivery.into_refused().is_empty());
    // The same over small batches: the count goes on.
    let mut in_a_row = 0;
    let mut held = false;
    for _ in 0..20 {
        let mut delivery = Delivery::new(5, in_a_row);
        while delivery.lines().is_some() && !held {
            held = matches!(delivery.answered(&status(400, "no"), 0), Step::Wait { held: true, .. });
        }
        in_a_row = delivery.refused_in_a_row();
    }
    assert!(held);
}

#[test]
fn a_backlog_beyond_retention_does_not_hold_the_sink() {
    let mut delivery = Delivery::new(1000, 0);
    while delivery.lines().is_some() {
        let answer = status(422, "partial write: points beyond retention policy: dropped=9");
        assert!(matches!(delivery.answered(&answer, 0), Step::Send | Step::Done));
    }
    assert_eq!(delivery.into_refused().len(), 1000);
}

#[test]
fn words_are_bounded_and_on_one_line() {
    let long = "a line\nwith\tcontrols ".repeat(100);
    let words = status(400, &long).words();
    assert!(words.starts_with("400 a line with controls") && words.len() <= WORDS_BYTES_MAX + 4);
    assert!(!words.contains(char::is_control));
}

proptest! {
    #[test]
    fn exactly_the_bad_lines_are_refused(total in 1_usize..300, picks in proptest::collection::vec(0_usize..300, 0..20)) {
        let bad: Vec<usize> = (0..total).filter(|line| picks.contains(line)).collect();
        let (refused, _) = play(total, &bad);
        prop_assert_eq!(refused, bad);
    }

    #[test]
    fn retries_in_between_change_nothing(total in 1_usize..60, bad in 0_usize..60, answers in proptest::collection::vec(0_u8..4, 0..200)) {
        let mut delivery = Delivery::new(total, 0);
        let (mut taken, mut answers) = (vec![0; total], answers.into_iter());
        while let Some(lines) = delivery.lines() {
            let answer = match answers.next() {
                Some(1) => status(503, ""),
                Some(2) => Answer::None("reset"),
                Some(3) => status(403, ""),
                _ if lines.contains(&bad) => status(422, "partial write"),
                _ => status(204, ""),
            };
            if answer.verdict() == Verdict::Taken {
                lines.for_each(|line| taken[line] += 1);
            }
            delivery.answered(&answer, 5);
        }
        let refused: Vec<usize> = delivery.into_refused().iter().map(|refused| refused.line).collect();
        prop_assert_eq!(&refused, &(0..total).filter(|&line| line == bad).collect::<Vec<_>>());
        prop_assert!(taken.iter().enumerate().all(|(line, &count)| count == usize::from(line != bad)));
    }
}
