use vrange::{Heap, Phase, Pinned};
use vrange_os::{Span, linux::page_out};

#[test]
fn offer_and_lose() {
    let heap = Heap::new().unwrap();
    for bytes in [100, 4096, 10 * 4096, 300 * 4096, 5 << 20] {
        let mut buffer = heap.buffer(bytes).unwrap();
        let fill = |b: &mut [u8]| {
            for (i, x) in b.iter_mut().enumerate() {
                *x = (i / 4096 + 1) as u8;
            }
        };
        match buffer.pin_mut() {
            Pinned::Intact(mut g) => fill(&mut g),
            _ => panic!(),
        }
        assert_eq!(buffer.phase(), Phase::Volatile);
        assert!(buffer.offer());
        assert_eq!(buffer.phase(), Phase::Offered);
        // rescue
        let Pinned::Intact(g) = buffer.pin() else { panic!("lost {bytes}") };
        page_out(Span::new(buffer.as_ptr().addr(), bytes.div_ceil(4096))).unwrap();
        assert!(g.iter().enumerate().all(|(i, x)| *x == (i / 4096 + 1) as u8));
        drop(g);
        assert!(buffer.offer());
        page_out(Span::new(buffer.as_ptr().addr(), bytes.div_ceil(4096))).unwrap();
        match buffer.pin_mut() {
            Pinned::Intact(_) => panic!("not lost {bytes}"),
            Pinned::Purged(p) => {
                println!("{bytes}: lost {} pages {:?}", p.lost_pages(), p.lost().collect::<Vec<_>>());
                let _g = p.refill(|b, _| fill(b));
            }
        }
        assert!(!buffer.pin().is_purged());
        assert!(buffer.release());
        assert!(buffer.pin().is_purged());
    }
    println!("{:?}", heap);
}
#[test]
fn speed() {
    let heap = Heap::new().unwrap();
    let mut b = heap.buffer(1 << 20).unwrap();
    b.pin_mut().intact().unwrap().fill(1);
    let t = std::time::Instant::now();
    for _ in 0..10_000_000 {
        std::hint::black_box(b.pin());
    }
    println!("pin+unpin {:?}", t.elapsed() / 10_000_000);
    let mut o = std::time::Duration::ZERO;
    let mut r = o;
    for _ in 0..300 {
        let t = std::time::Instant::now();
        assert!(b.offer());
        o += t.elapsed();
        let t = std::time::Instant::now();
        drop(b.pin());
        r += t.elapsed();
    }
    println!("1 MiB offer {:?} rescue {:?}", o / 300, r / 300);
    let mut b = heap.buffer(64 << 20).unwrap();
    b.pin_mut().intact().unwrap().fill(1);
    let mut o = std::time::Duration::ZERO;
    let mut r = o;
    for _ in 0..30 {
        let t = std::time::Instant::now();
        assert!(b.offer());
        o += t.elapsed();
        let t = std::time::Instant::now();
        drop(b.pin());
        r += t.elapsed();
    }
    println!("64 MiB offer {:?} rescue {:?} (per MiB {:?} {:?})", o / 30, r / 30, o / 30 / 64, r / 30 / 64);
}
