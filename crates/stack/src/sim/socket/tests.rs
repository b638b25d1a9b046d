//! The model against what the kernel was seen to do.

use std::rc::Rc;

use super::*;
use crate::flow::{FlowKey, FlowKind, FlowTable, Secret};
use crate::io::TcpSocket;
use crate::sim::app::{Close, Stall};
use crate::sim::host::patterns;

struct Rig {
    model: Rc<RefCell<SocketModel>>,
    shared: Rc<Shared>,
    socket: Option<SimSocket>,
}

impl Rig {
    fn new(connect: ConnectPlan, sndbuf: u64, app: AppPlan) -> Self {
        let pipe = PipePlan {
            delay: Duration::from_millis(5),
            rate: 1_000_000_000,
            mss: 1_448,
            buffer: 64 << 10,
            buffer_max: 64 << 10,
        };
        let plan = SocketPlan {
            connect,
            outward: pipe,
            inward: pipe,
            sndbuf,
            sndbuf_max: 4 << 20,
            overhead: 5,
            app,
            old_info: false,
        };
        let shared = Rc::new(Shared::default());
        let peer: SocketAddr = "198.51.100.7:1000".parse().unwrap();
        let mut table = FlowTable::new(FlowKind::Tcp, Secret::new([1; 16]));
        let id = table.try_insert_with(FlowKey::new(peer, peer), |_| Ok::<_, ()>(0u8));
        let now = Instant::default();
        let model = SocketModel::connect(0, id.unwrap().unwrap(), peer, plan, patterns(0), now);
        let model = Rc::new(RefCell::new(model));
        let socket = Some(SimSocket::new(Rc::clone(&model), Rc::clone(&shared)));
        Self { model, shared, socket }
    }

    /// Lets `time` pass; the edges that came.
    fn pass(&mut self, time: Duration) -> Vec<Readiness> {
        let end = self.shared.now.get() + time;
        let mut edges = Vec::new();
        loop {
            let now = self.shared.now.get();
            let next = self.model.borrow_mut().poll(now);
            edges.extend(self.model.borrow_mut().take_edge());
            let next = next.unwrap_or(end).max(now + Duration::from_nanos(1));
            if next > end {
                self.shared.now.set(end);
                return edges;
            }
            self.shared.now.set(next);
        }
    }

    fn send(&mut self, len: usize) -> Result<usize, i32> {
        let mut data = vec![0; len];
        let position = self.model.borrow().taken();
        patterns(0).0.fill(position, &mut data);
        let sent = self.socket.as_mut().unwrap().send(&[std::io::IoSlice::new(&data)]);
        sent.map_err(|error| error.raw_os_error().unwrap_or(11))
    }

    fn peek(&mut self, offset: u32, len: usize) -> Result<usize, i32> {
        let got = self.socket.as_mut().unwrap().peek(offset, &mut vec![0; len]);
        got.map_err(|error| error.raw_os_error().unwrap_or(11))
    }
}

#[test]
fn connect_ends_with_an_edge() {
    let mut rig = Rig::new(ConnectPlan::Accept, 16 << 10, AppPlan::default());
    assert!(rig.pass(Duration::from_millis(9)).is_empty());
    let edges = rig.pass(Duration::from_millis(2));
    assert!(edges[0].writable && !edges[0].error);
    assert_eq!(rig.socket.as_mut().unwrap().info().bytes_acked, Some(1), "the SYN counts");

    let mut rig = Rig::new(ConnectPlan::Refuse, 16 << 10, AppPlan::default());
    let edges = rig.pass(Duration::from_millis(11));
    assert!(edges[0].error && edges[0].hang_up && edges[0].writable);
    let error = rig.socket.as_mut().unwrap().take_error().unwrap();
    assert_eq!((error.errno, error.icmp), (errno::ECONNREFUSED, None));
}

#[test]
fn a_send_buffer_overshoots_then_wakes_and_grows() {
    let stall = Stall { at: 0, lasts: Duration::from_millis(500) };
    let app = AppPlan { stall: Some(stall), close: Close::AfterPeer, ..AppPlan::default() };
    let mut rig = Rig::new(ConnectPlan::Accept, 16 << 10, app);
    rig.pass(Duration::from_millis(20));
    let taken = rig.send(200_000).unwrap();
    let room = rig.socket.as_mut().unwrap().send_room();
    assert!(room.queued > room.sndbuf, "{room:?}: a packet more than there is room for");
    assert!(taken > 16 << 10 && taken < 100_000, "{taken}");
    assert_eq!(rig.send(1), Err(11));
    let edges = rig.pass(Duration::from_millis(60));
    assert!(edges.iter().any(|edge| edge.writable), "after the short write, once a third is free");
    assert!(rig.socket.as_mut().unwrap().send_room().sndbuf > room.sndbuf, "filled, so it grows");
    // A write that fits asks for no edge.
    rig.send(100).unwrap();
    assert!(rig.pass(Duration::from_millis(60)).is_empty());
    assert_eq!(rig.model.borrow().wrong, None);
}

#[test]
fn the_receive_queue_outlives_a_reset() {
    let app = AppPlan { send: 30_000, reset_after: Some(30_000), ..AppPlan::default() };
    let mut rig = Rig::new(ConnectPlan::Accept, 16 << 10, app);
    let edges = rig.pass(Duration::from_millis(100));
    assert!(edges.last().is_some_and(|edge| edge.error && edge.hang_up && edge.readable));
    let there = rig.peek(0, 60_000).unwrap();
    assert!(there > 10_000);
    let socket = rig.socket.as_mut().unwrap();
    assert_eq!(socket.discard(1_000).unwrap(), 1_000);
    assert_eq!(rig.peek(0, 60_000), Ok(there - 1_000));
    let end = u32::try_from(there).unwrap() - 1_000;
    assert_eq!(rig.peek(end, 10), Err(errno::ECONNRESET), "then the error, once");
    assert_eq!(rig.peek(end, 10), Ok(0), "then the end");
    assert_eq!(rig.send(1), Err(errno::EPIPE));
}

#[test]
fn the_fin_stands_behind_the_data_and_unread_data_resets() {
    let app = AppPlan { send: 5_000, ..AppPlan::default() };
    let mut rig = Rig::new(ConnectPlan::Accept, 16 << 10, app);
    let edges = rig.pass(Duration::from_millis(100));
    assert!(edges.last().is_some_and(|edge| edge.read_closed && !edge.hang_up));
    assert_eq!(rig.peek(0, 10), Ok(10));
    assert_eq!(rig.peek(4_999, 10), Ok(1));
    assert_eq!(rig.peek(5_000, 10), Ok(0));
    rig.socket = None;
    rig.pass(Duration::from_millis(100));
    assert!(rig.model.borrow().app.failed, "closed with data unread: a reset");
}
