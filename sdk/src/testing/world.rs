//! The state of a scripted host, and the loop that runs a task against it.
//!
//! Everything is on one thread. A task is polled, and when it waits, the next turn is due: the clock moves there, that
//! one wait ends, and the task is polled again.

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{Reply, SubAgent};
use crate::bindings::agenthost::plugin::shares::Share;
use crate::extension::ToolCall;
use crate::llm::{self, Allowance, Request};
use crate::memory;

type Task<T> = Pin<Box<dyn Future<Output = T>>>;
type Answer = Box<dyn FnMut(&Request) -> Reply>;
type AnyTask = Box<dyn FnMut(Box<dyn Any>) -> Task<Box<dyn Any>>>;

/// A call of [`progress`](crate::progress()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The number of steps that are done.
    pub done: u32,
    /// The number of all steps, if the task gave it.
    pub total: Option<u32>,
    /// The text for the people who watch.
    pub message: String,
}

#[derive(Default)]
pub(crate) struct World {
    now: Cell<Duration>,
    waits: RefCell<Waits>,
    models: RefCell<BTreeMap<String, Model>>,
    sub_agents: RefCell<HashMap<TypeId, AnyTask>>,
    allowances: RefCell<VecDeque<Allowance>>,
    /// The documents of the plugin's memory; `None` if none is granted.
    documents: RefCell<Option<BTreeMap<String, String>>>,
    /// The number of tool calls that have got an id.
    tool_calls: Cell<u32>,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Model {
    replies: VecDeque<Reply>,
    otherwise: Option<Answer>,
}

/// The record of a task.
#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    started: Vec<SubTask>,
    /// The shares from which the next sub-task spends.
    shares: Vec<Share>,
    progress: Vec<Progress>,
    cancelled: Vec<String>,
    /// The number of calls so far.
    calls: usize,
    /// The calls that have not ended, by their numbers.
    running: BTreeMap<usize, String>,
    most_concurrent: usize,
}

/// A sub-task that was started.
struct SubTask {
    key: TypeId,
    input: Box<dyn Any>,
    shares: Vec<Share>,
}

#[derive(Default)]
struct Waits {
    last: u64,
    /// By number, hence in the order in which they began.
    open: BTreeMap<u64, Wait>,
}

struct Wait {
    name: String,
    /// `None` if it never ends.
    due: Option<Duration>,
    waker: Option<Waker>,
}

thread_local! {
    /// The hosts whose `run` is on the stack, the innermost last.
    static CURRENT: RefCell<Vec<Rc<World>>> = const { RefCell::new(Vec::new()) };
}

impl World {
    /// The host that the caller runs under.
    #[expect(clippy::panic, reason = "there is no value to go on with")]
    pub(crate) fn current(function: &str) -> Rc<World> {
        match CURRENT.with_borrow(|current| current.last().cloned()) {
            Some(world) => world,
            None => panic!(
                "host functions exist only inside agenthost: {function}\nhint: in a test, run the task with \
                 `agenthost_sdk::testing::Host`"
            ),
        }
    }

    pub(super) fn add_replies(&self, name: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut models = self.models.borrow_mut();
        models.entry(name.to_owned()).or_default().replies.extend(replies);
    }

    pub(super) fn set_model(&self, name: &str, reply: impl FnMut(&Request) -> Reply + 'static) {
        let mut models = self.models.borrow_mut();
        models.entry(name.to_owned()).or_default().otherwise = Some(Box::new(reply));
    }

    pub(super) fn set_sub_agent<F: SubAgent<Kind>, Kind>(
        &self,
        run: &F,
        mut task: impl FnMut(F::Input) -> Task<F::Output> + 'static,
    ) {
        let task = move |input: Box<dyn Any>| -> Task<Box<dyn Any>> {
            let output = task(*downcast(input));
            Box::pin(async move { Box::new(output.await) as Box<dyn Any> })
        };
        self.sub_agents.borrow_mut().insert(key(run), Box::new(task));
    }

    pub(super) fn add_allowances(&self, allowances: impl IntoIterator<Item = Allowance>) {
        self.allowances.borrow_mut().extend(allowances);
    }

    pub(super) fn add_documents(&self, documents: impl IntoIterator<Item = (String, String)>) {
        self.documents.borrow_mut().get_or_insert_default().extend(documents);
    }

    /// Returns all documents.
    pub(super) fn documents(&self) -> BTreeMap<String, String> {
        self.documents.borrow().clone().unwrap_or_default()
    }

    pub(crate) fn document(&self, name: &str) -> Result<Option<String>, memory::Error> {
        let documents = self.documents.borrow();
        let documents = documents.as_ref().ok_or(memory::Error::NotGranted)?;
        check_name(name)?;
        Ok(documents.get(name).cloned())
    }

    pub(crate) fn set_document(&self, name: &str, json: Option<&str>) -> Result<(), memory::Error> {
        let mut documents = self.documents.borrow_mut();
        let documents = documents.as_mut().ok_or(memory::Error::NotGranted)?;
        check_name(name)?;
        match json {
            Some(json) => documents.insert(name.to_owned(), json.to_owned()),
            None => documents.remove(name),
        };
        Ok(())
    }

    pub(crate) fn document_names(&self, prefix: &str) -> Result<Vec<String>, memory::Error> {
        let documents = self.documents.borrow();
        let documents = documents.as_ref().ok_or(memory::Error::NotGranted)?;
        let names = documents.keys().filter(|name| name.starts_with(prefix));
        Ok(names.cloned().collect())
    }

    /// Polls `task` and gives it turns until it ends.
    pub(super) fn run<T>(self: &Rc<Self>, task: impl Future<Output = T>) -> T {
        CURRENT.with_borrow_mut(|current| current.push(Rc::clone(self)));
        let _entered = Entered;
        let mut task = pin!(task);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if let Poll::Ready(output) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            // A task that woke itself continues before any reply comes.
            if !woken.0.swap(false, Ordering::Relaxed) {
                self.next_turn();
                woken.0.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Ends the next wait that is due.
    #[expect(clippy::panic, reason = "the task would wait for ever")]
    fn next_turn(&self) {
        let mut waits = self.waits.borrow_mut();
        let due = waits
            .open
            .iter()
            .filter_map(|(number, wait)| Some((wait.due?, *number)));
        let Some((due, number)) = due.min() else {
            let names: Vec<&str> = waits.open.values().map(|wait| wait.name.as_str()).collect();
            let seen = self.seen.borrow();
            // A sub-agent's script can wait for what this host does not know.
            let scripts = seen.running.values().map(|name| format!("the script of `{name}`"));
            let names = match (names.is_empty(), seen.running.is_empty()) {
                (false, _) => names.join(", "),
                (true, false) => scripts.collect::<Vec<_>>().join(", "),
                (true, true) => "something that is not of the host".to_owned(),
            };
            drop((waits, seen));
            panic!("the task waits for what never comes: {names}");
        };
        let waker = waits.open.remove(&number).and_then(|wait| wait.waker);
        drop(waits);
        self.now.set(self.now.get().max(due));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for a turn, `delay` from now.
    pub(super) fn turn(self: Rc<Self>, name: String, delay: Option<Duration>) -> Turn {
        let mut waits = self.waits.borrow_mut();
        waits.last += 1;
        let number = waits.last;
        let wait = Wait {
            name,
            due: delay.map(|delay| self.now.get().saturating_add(delay)),
            waker: None,
        };
        waits.open.insert(number, wait);
        drop(waits);
        Turn { world: self, number }
    }

    /// Answers a model request.
    pub(crate) async fn complete(self: Rc<Self>, request: Request) -> Result<llm::Reply, llm::Error> {
        let Reply { mut result, delay } = self.reply(&request);
        if let Ok(reply) = &mut result {
            self.fill_in(reply, &request);
        }
        let name = format!("model {}", request.model);
        self.seen.borrow_mut().requests.push(request);
        let call = Call::begin(&self, name.clone());
        self.turn(name, delay).await;
        call.end();
        result
    }

    /// Fills in what a script leaves open: the model, and the ids of calls.
    fn fill_in(&self, reply: &mut llm::Reply, request: &Request) {
        if reply.model.is_empty() {
            reply.model.clone_from(&request.model);
        }
        for part in &mut reply.content {
            ToolCall::number(part, || {
                self.tool_calls.set(self.tool_calls.get() + 1);
                format!("call-{}", self.tool_calls.get())
            });
        }
    }

    #[expect(clippy::panic, reason = "fails the test, which has to say what the model replies")]
    fn reply(&self, request: &Request) -> Reply {
        let mut models = self.models.borrow_mut();
        let mut taken = None;
        if let Some(model) = models.get_mut(&request.model) {
            if let Some(reply) = model.replies.pop_front() {
                return reply;
            }
            taken = model.otherwise.take();
        }
        drop(models);
        let Some(mut otherwise) = taken else {
            let before = self
                .seen
                .borrow()
                .requests
                .iter()
                .filter(|seen| seen.model == request.model)
                .count();
            let name = &request.model;
            panic!(
                "no reply is scripted for request {} of the model `{name}`:\n{}\nhint: add one with \
                 `Host::model({name:?}, [Reply::text(…)])`",
                before + 1,
                request.text()
            );
        };
        // Not borrowed meanwhile: the function may look at the host.
        let reply = otherwise(request);
        if let Some(model) = self.models.borrow_mut().get_mut(&request.model) {
            model.otherwise = Some(otherwise);
        }
        reply
    }

    /// Runs the task that replaces a sub-agent's.
    pub(crate) async fn start<I: Clone + 'static, O: 'static>(
        self: Rc<Self>,
        key: TypeId,
        plugin: &str,
        input: I,
    ) -> O {
        let task = self.task(key, plugin, input);
        let call = Call::begin(&self, plugin.to_owned());
        let output = task.await;
        // Its end is a turn of its own, as in a run.
        self.turn(plugin.to_owned(), Some(Duration::ZERO)).await;
        call.end();
        *downcast(output)
    }

    /// As [`start`](World::start), for a caller that cannot wait.
    #[expect(clippy::panic, reason = "there is no value to go on with")]
    pub(crate) fn start_now<I: Clone + 'static, O: 'static>(self: &Rc<Self>, key: TypeId, plugin: &str, input: I) -> O {
        let mut task = self.task(key, plugin, input);
        match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => *downcast(output),
            Poll::Pending => panic!("the task of `{plugin}` is not async, so its script cannot wait"),
        }
    }

    #[expect(clippy::panic, reason = "fails the test, which has to say what the sub-agent does")]
    fn task<I: Clone + 'static>(&self, key: TypeId, plugin: &str, input: I) -> Task<Box<dyn Any>> {
        let mut seen = self.seen.borrow_mut();
        let shares = seen.shares.clone();
        seen.started.push(SubTask {
            key,
            input: Box::new(input.clone()),
            shares,
        });
        drop(seen);
        // Not borrowed meanwhile, as above.
        let Some(mut task) = self.sub_agents.borrow_mut().remove(&key) else {
            panic!(
                "no task is scripted for the sub-agent `{plugin}`\nhint: add one with `Host::sub_agent(…::run, |input| …)`"
            );
        };
        let running = task(Box::new(input));
        self.sub_agents.borrow_mut().insert(key, task);
        running
    }

    pub(crate) fn remaining(&self) -> Allowance {
        let mut allowances = self.allowances.borrow_mut();
        match allowances.len() {
            0 | 1 => allowances.front().cloned().unwrap_or_default(),
            _ => allowances.pop_front().unwrap_or_default(),
        }
    }

    pub(crate) fn report(&self, done: u32, total: Option<u32>, message: &str) {
        self.seen.borrow_mut().progress.push(Progress {
            done,
            total,
            message: message.to_owned(),
        });
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.borrow().requests.clone()
    }

    pub(super) fn inputs<F: SubAgent<Kind>, Kind>(&self, run: &F) -> Vec<F::Input> {
        let key = key(run);
        let seen = self.seen.borrow();
        let started = seen.started.iter().filter(|task| task.key == key);
        started.filter_map(|task| task.input.downcast_ref().cloned()).collect()
    }

    pub(crate) fn spend_from(&self, shares: &[Share]) {
        self.seen.borrow_mut().shares = shares.to_vec();
    }

    pub(super) fn shares<F: SubAgent<Kind>, Kind>(&self, run: &F) -> Vec<Vec<Share>> {
        let key = key(run);
        let seen = self.seen.borrow();
        let started = seen.started.iter().filter(|task| task.key == key);
        started.map(|task| task.shares.clone()).collect()
    }

    pub(super) fn progress(&self) -> Vec<Progress> {
        self.seen.borrow().progress.clone()
    }

    pub(super) fn cancelled(&self) -> Vec<String> {
        self.seen.borrow().cancelled.clone()
    }

    pub(super) fn most_concurrent(&self) -> usize {
        self.seen.borrow().most_concurrent
    }

    pub(super) fn unused_replies(&self) -> usize {
        self.models.borrow().values().map(|model| model.replies.len()).sum()
    }

    pub(super) fn now(&self) -> Duration {
        self.now.get()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Refuses a name that the host refuses, but for its length.
fn check_name(name: &str) -> Result<(), memory::Error> {
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let is_part = |part: &str| {
        let ends_well = !part.is_empty() && !part.ends_with('.') && !part.ends_with(".json");
        ends_well && !part.starts_with('.') && part.bytes().all(is_allowed)
    };
    match name.split('/').all(is_part) {
        true => Ok(()),
        false => Err(memory::Error::InvalidName(format!("`{name}`"))),
    }
}

/// Identifies the function of an imported task.
pub(crate) fn key<F: 'static>(_run: &F) -> TypeId {
    TypeId::of::<F>()
}

#[expect(clippy::panic, reason = "the types of a function and of its script are the same")]
fn downcast<T: 'static>(value: Box<dyn Any>) -> Box<T> {
    match value.downcast() {
        Ok(value) => value,
        Err(_) => panic!("not a {}", std::any::type_name::<T>()),
    }
}

/// Leaves the host when its `run` ends, also by a panic.
struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(Vec::pop);
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A call that counts as canceled if it is dropped before it ends.
struct Call {
    world: Rc<World>,
    number: usize,
    ended: bool,
}

impl Call {
    fn begin(world: &Rc<World>, name: String) -> Call {
        let mut seen = world.seen.borrow_mut();
        seen.calls += 1;
        let number = seen.calls;
        seen.running.insert(number, name);
        seen.most_concurrent = seen.most_concurrent.max(seen.running.len());
        Call {
            world: Rc::clone(world),
            number,
            ended: false,
        }
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut seen = self.world.seen.borrow_mut();
        let name = seen.running.remove(&self.number);
        seen.cancelled.extend(name.filter(|_| !self.ended));
    }
}

/// Ready once its turn has come.
pub(super) struct Turn {
    world: Rc<World>,
    number: u64,
}

impl Future for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.world.waits.borrow_mut().open.get_mut(&self.number) {
            Some(wait) => {
                wait.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.world.waits.borrow_mut().open.remove(&self.number);
    }
}
