//! Each fault as a client sees it.

use super::*;

/// A server that answers every request with its correlation id and `answer`, and counts the requests.
fn server() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, counting) = (connection.unwrap(), Arc::clone(&counting));
            std::thread::spawn(move || {
                while let Some(request) = read_frame(&mut connection) {
                    counting.fetch_add(1, Ordering::SeqCst);
                    let mut response = vec![0, 0, 0, 10];
                    response.extend_from_slice(&request[8..12]);
                    response.extend_from_slice(b"answer");
                    if connection.write_all(&response).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

struct Client(TcpStream);

impl Client {
    fn of(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }

    fn ask(&mut self, api: i16, correlation: i32) {
        let mut request = vec![0, 0, 0, 8];
        request.extend_from_slice(&api.to_be_bytes());
        request.extend_from_slice(&[0, 1]);
        request.extend_from_slice(&correlation.to_be_bytes());
        self.0.write_all(&request).unwrap();
    }

    /// What arrives until the end of the stream, or the error that ends it.
    fn rest(&mut self) -> Result<Vec<u8>, std::io::ErrorKind> {
        let mut all = Vec::new();
        self.0.read_to_end(&mut all).map(|_| all).map_err(|error| error.kind())
    }

    fn receive(&mut self) -> Option<Vec<u8>> {
        read_frame(&mut self.0)
    }
}

fn answer(correlation: u8) -> Vec<u8> {
    [&[0, 0, 0, 10, 0, 0, 0, correlation], &b"answer"[..]].concat()
}

#[test]
fn a_proxy_without_faults_forwards_every_response() {
    let proxy = Proxy::start("127.0.0.1:0", &server().0);
    let mut client = Client::of(&proxy);
    for correlation in 0..200 {
        client.ask(FETCH, correlation);
    }
    for correlation in 0..200 {
        assert_eq!(client.receive(), Some(answer(correlation)));
    }
    assert_eq!(proxy.faults_applied(), 0);
}

#[test]
fn a_slow_connection_delays_each_direction_once() {
    let proxy = Proxy::start("127.0.0.1:0", &server().0);
    proxy.slow(Duration::from_millis(100));
    let mut client = Client::of(&proxy);
    let start = Instant::now();
    for correlation in 0..100 {
        client.ask(FETCH, correlation);
    }
    for correlation in 0..100 {
        assert_eq!(client.receive(), Some(answer(correlation)));
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_black_hole_is_silent_until_it_heals() {
    let (target, asked) = server();
    let proxy = Proxy::start("127.0.0.1:0", &target);
    let mut client = Client::of(&proxy);
    proxy.black_hole();
    client.ask(FETCH, 1);
    client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!((client.receive(), asked.load(Ordering::SeqCst)), (None, 0));
    proxy.heal();
    client.0.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(client.receive(), Some(answer(1)));
}

#[test]
fn a_reset_closes_connections_and_new_ones_pass_unless_refused() {
    let proxy = Proxy::start("127.0.0.1:0", &server().0);
    let mut client = Client::of(&proxy);
    client.ask(FETCH, 1);
    assert_eq!(client.receive(), Some(answer(1)));
    proxy.reset();
    assert_eq!(client.rest(), Err(std::io::ErrorKind::ConnectionReset));
    let mut client = Client::of(&proxy);
    client.ask(FETCH, 2);
    assert_eq!(client.receive(), Some(answer(2)));
    proxy.refuse();
    assert_eq!(client.rest(), Err(std::io::ErrorKind::ConnectionReset));
    assert_eq!(Client::of(&proxy).rest(), Err(std::io::ErrorKind::ConnectionReset));
    proxy.heal();
    let mut client = Client::of(&proxy);
    client.ask(FETCH, 3);
    assert_eq!(client.receive(), Some(answer(3)));
}

#[test]
fn a_request_with_a_dropped_response_is_executed() {
    let (target, asked) = server();
    let proxy = Proxy::start("127.0.0.1:0", &target);
    proxy.drop_next_response(PRODUCE);
    let mut client = Client::of(&proxy);
    client.ask(FETCH, 1);
    assert_eq!(client.receive(), Some(answer(1)), "another kind passes");
    client.ask(PRODUCE, 2);
    assert_eq!(client.rest(), Ok(Vec::new()));
    assert_eq!((asked.load(Ordering::SeqCst), proxy.faults_applied()), (2, 1));
    let mut client = Client::of(&proxy);
    client.ask(PRODUCE, 3);
    assert_eq!(client.receive(), Some(answer(3)), "only the next one is dropped");
}

#[test]
fn a_cut_response_ends_in_its_middle() {
    let proxy = Proxy::start("127.0.0.1:0", &server().0);
    proxy.cut_next_response(PRODUCE);
    let mut client = Client::of(&proxy);
    client.ask(PRODUCE, 2);
    assert_eq!(client.rest(), Ok(answer(2)[..7].to_vec()));
    assert_eq!(proxy.faults_applied(), 1);
}

#[test]
fn a_half_closed_connection_accepts_requests_and_sends_no_response() {
    let (target, asked) = server();
    let proxy = Proxy::start("127.0.0.1:0", &target);
    proxy.half_close_after(PRODUCE);
    let mut client = Client::of(&proxy);
    client.ask(PRODUCE, 1);
    assert_eq!(client.rest(), Ok(answer(1)));
    client.ask(PRODUCE, 2);
    crate::harness::eventually("the request arrives", Duration::from_secs(10), || {
        (asked.load(Ordering::SeqCst) == 2).then_some(())
    });
}

#[test]
fn a_connection_that_had_a_fault_takes_no_other() {
    let (target, asked) = server();
    let proxy = Proxy::start("127.0.0.1:0", &target);
    proxy.half_close_after(PRODUCE);
    let mut struck = Client::of(&proxy);
    struck.ask(PRODUCE, 1);
    assert_eq!(struck.rest(), Ok(answer(1)));
    proxy.drop_next_response(PRODUCE);
    struck.ask(PRODUCE, 2);
    crate::harness::eventually("the request arrives", Duration::from_secs(10), || {
        (asked.load(Ordering::SeqCst) == 2).then_some(())
    });
    let mut client = Client::of(&proxy);
    client.ask(PRODUCE, 3);
    assert_eq!(client.rest(), Ok(Vec::new()));
}

/// A metadata response of version 12: a broker, a controller, and a topic of one partition that the broker leads, if there is one.
fn metadata(brokers: bool, topics: bool, is_led: bool) -> Vec<u8> {
    let (error, leader) = if is_led { (0_i16, 1_i32) } else { (5, -1) };
    let id = |of: i32| of.to_be_bytes();
    let broker = [&id(1), &b"\x05host"[..], &id(9092), &[0, 0]].concat();
    let replicas = [&[2], &id(1)[..]].concat();
    let partition = [&error.to_be_bytes()[..], &id(0), &id(leader), &id(7), &replicas, &replicas, &[1], &[1, 5, 1, 9]].concat();
    let topic = [&[0, 0], &b"\x05here"[..], &[3; 16], &[0, 2], &partition, &id(i32::MIN), &[0]].concat();
    let made_up = [&[0, 5], &b"\x07hidden"[..], &[0; 16], &[0, 1], &id(i32::MIN), &[0]].concat();
    let mut response = [&id(77)[..], &[0], &id(0)].concat();
    response.extend(if brokers { [&[2], &broker[..]].concat() } else { vec![1] });
    response.extend(b"\x03id");
    response.extend(id(if brokers { 1 } else { -1 }));
    match (brokers, topics) {
        (_, true) => response.extend([&[2], &topic[..]].concat()),
        (true, false) => response.push(1),
        (false, false) => response.extend([&[2], &made_up[..]].concat()),
    }
    response.push(0);
    [&u32::try_from(response.len()).unwrap().to_be_bytes()[..], &response].concat()
}

#[test]
fn a_response_without_brokers_lists_the_same_topics_without_leaders() {
    assert_eq!(without_brokers(12, &metadata(true, true, true)), metadata(false, true, false));
}

#[test]
fn a_response_without_brokers_and_topics_gets_a_topic() {
    assert_eq!(without_brokers(12, &metadata(true, false, true)), metadata(false, false, true));
}
