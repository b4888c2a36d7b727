//! Few queries run at once, few wait, and an answer that all share is made once.

use super::*;
use std::{
    pin::{Pin, pin},
    sync::mpsc,
    task::{Context, Poll, Waker},
};

fn busy() -> ApiError {
    ApiError::Busy("too many queries at once: try again in a second".into())
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn started(figures: &Figures) -> u64 {
    figures.started.load(Ordering::Relaxed)
}

/// Waits for what a blocking thread does.
async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come to that");
        tokio::task::yield_now().await;
    }
}

/// Queries that run until the sender is dropped.
fn occupy(queries: &Arc<Queries>) -> (Vec<tokio::task::JoinHandle<Result<(), ApiError>>>, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    let tasks = (0..RUNNING).map(|_| {
        let (queries, gone) = (Arc::clone(queries), Arc::clone(&gone));
        tokio::spawn(async move {
            queries
                .run(move || {
                    // It ends when the sender is gone.
                    let _ = gone.lock().unwrap_or_else(PoisonError::into_inner).recv();
                })
                .await
        })
    });
    (tasks.collect(), go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_abandoned_requests_start_nothing() {
    let queries = Arc::new(Queries::default());
    let (running, go) = occupy(&queries);
    until(|| started(queries.figures()) == RUNNING as u64).await;
    for _ in 0..1000 {
        let mut abandoned = pin!(queries.run(|| ()));
        assert!(poll_once(abandoned.as_mut()).is_pending(), "it waits for a place");
    }
    drop(go);
    for task in running {
        task.await.unwrap().unwrap();
    }
    assert_eq!(queries.run(|| 7).await, Ok(7), "all places are free again");
    assert_eq!(started(queries.figures()), RUNNING as u64 + 1);
    assert_eq!(queries.figures().refused.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_too_many_is_refused_at_once_and_one_that_waits_too_long_then() {
    let queries = Arc::new(Queries::default());
    let (running, go) = occupy(&queries);
    until(|| started(queries.figures()) == RUNNING as u64).await;
    let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(queries.run(|| ()))).collect();
    for query in &mut waiting {
        assert!(poll_once(query.as_mut()).is_pending());
    }
    let mut one_more = pin!(queries.run(|| ()));
    assert_eq!(poll_once(one_more.as_mut()), Poll::Ready(Err(busy())));
    assert_eq!(queries.figures().refused.load(Ordering::Relaxed), 1);
    // No query ends, so waiting ones are refused as well, and leave the queue.
    for query in waiting {
        assert_eq!(query.await, Err(busy()));
    }
    assert_eq!(queries.figures().refused.load(Ordering::Relaxed), 1 + WAITING as u64);
    drop(go);
    for task in running {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_the_same_for_all_is_made_once_also_where_the_first_to_ask_has_gone() {
    let (figures, fresh) = (Arc::<Figures>::default(), Fresh::default());
    let (go, gone) = mpsc::channel::<()>();
    {
        let mut first = pin!(fresh.get(&figures, move || {
            let _ = gone.recv();
            7
        }));
        assert!(poll_once(first.as_mut()).is_pending());
    }
    let mut others: Vec<_> = (0..100).map(|_| Box::pin(fresh.get(&figures, || 8))).collect();
    for other in &mut others {
        assert!(poll_once(other.as_mut()).is_pending());
    }
    drop(go);
    for other in others {
        assert_eq!(*other.await.unwrap(), 7);
    }
    assert_eq!((*fresh.get(&figures, || 8).await.unwrap(), started(&figures)), (7, 1));
}

#[tokio::test]
async fn an_answer_is_made_anew_when_it_is_old_or_could_not_be_made() {
    let (figures, fresh) = (Arc::<Figures>::default(), Fresh::default());
    assert_eq!(fresh.get(&figures, || panic!("planted")).await, Err(ApiError::Internal));
    assert_eq!(*fresh.get(&figures, || 1).await.unwrap(), 1);
    if let Some((at, _)) = &mut fresh.inner.lock().newest {
        *at = at.checked_sub(FRESH).unwrap();
    }
    assert_eq!(*fresh.get(&figures, || 2).await.unwrap(), 2);
    assert_eq!(started(&figures), 3);
}

#[tokio::test]
async fn an_answer_that_was_ready_just_before_the_question_and_shown_just_after_is_an_answer() {
    let (figures, fresh) = (Arc::<Figures>::default(), Fresh::default());
    let made = Arc::new(7);
    let ready = Instant::now();
    fresh.inner.lock().running = true;
    let making = Making(Arc::clone(&fresh.inner));
    let mut asked = pin!(fresh.get(&figures, || 8));
    assert!(poll_once(asked.as_mut()).is_pending());
    // Another making failed meanwhile, and its bell is no answer.
    fresh.inner.bell.send_replace(());
    assert!(poll_once(asked.as_mut()).is_pending());
    fresh.inner.lock().make(made);
    if let Some((at, _)) = &mut fresh.inner.lock().newest {
        *at = ready;
    }
    drop(making);
    assert_eq!(asked.await.as_deref(), Ok(&7));
}

#[test]
fn a_query_that_waits_for_a_thread_and_is_abandoned_never_begins() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let queries = Queries::default();
        let (go, gone) = mpsc::channel::<()>();
        let thread = tokio::task::spawn_blocking(move || gone.recv());
        {
            let mut abandoned = pin!(queries.run(|| ()));
            assert!(poll_once(abandoned.as_mut()).is_pending(), "the only thread is taken");
        }
        drop(go);
        let _ = thread.await.unwrap();
        assert_eq!(queries.run(|| 7).await, Ok(7));
        assert_eq!(started(queries.figures()), 1);
    });
}
