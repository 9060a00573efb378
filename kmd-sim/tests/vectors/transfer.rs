//! Vectors X: from the tracker of an object to those of its resources. A is on pages 0..4, B on 4..8, C on
//! 0..8 and M on 2..4 of an object of 8 pages.

use kmd_sim::lockdep::Splat;
use kmd_sim::upstream::Upstream;
use kmd_sim::vmwgfx::page_dirty::Method;

use crate::rig::{Kind, Rig, runs};

/// An object of 8 pages, with the mkwrite method, of which these pages were written.
fn dirty(upstream: Upstream, pages: &[u64]) -> Rig {
    let rig = Rig::new(upstream, 8);
    rig.add().unwrap();
    rig.scan();
    rig.scan();
    rig.scan();
    assert_eq!(rig.method().0, Method::Mkwrite);
    for page in pages {
        rig.write(*page..page + 1);
    }
    rig
}

fn fixed(pages: &[u64]) -> Rig {
    dirty(Upstream::default(), pages)
}

fn quirky(pages: &[u64]) -> Rig {
    dirty(Upstream::with_quirk("Q-03"), pages)
}

fn clear(rig: &Rig, pages: std::ops::Range<u64>) {
    rig.reserved(|state| {
        state.driver.dirty.as_mut().unwrap().clear_res(&(pages.start * 4096..pages.end * 4096));
    });
}

#[test]
fn x_01_a_resource_gets_its_own_pages_and_leaves_the_others() {
    let rig = fixed(&[1, 5]);
    let a = rig.attach(Kind::Surface, 0..4);
    assert_eq!(rig.transfer(&a), [(1, 2)]);
    assert_eq!((rig.bits(), rig.bounds()), (vec![5], (4, 6)));

    let rig = quirky(&[1, 5]);
    let a = rig.attach(Kind::Surface, 0..4);
    let b = rig.attach(Kind::Surface, 4..8);
    assert_eq!(rig.transfer(&a), [(1, 2), (5, 6)]);
    assert_eq!(rig.task.take_splats(), [Splat::Driver("a range of another resource")]);
    assert_eq!((rig.bits(), rig.bounds()), (vec![], (6, 0)));
    assert_eq!(rig.transfer(&b), []);
}

#[test]
fn x_02_the_upper_of_two_resources_leaves_the_lower() {
    let rig = fixed(&[1, 5]);
    let b = rig.attach(Kind::Surface, 4..8);
    assert_eq!(rig.transfer(&b), [(5, 6)]);
    assert_eq!((rig.bits(), rig.bounds()), (vec![1], (1, 4)));

    let rig = quirky(&[1, 5]);
    let b = rig.attach(Kind::Surface, 4..8);
    assert_eq!(rig.transfer(&b), [(5, 6)]);
    assert_eq!((rig.bits(), rig.bounds()), (vec![1], (1, 4)));
}

#[test]
fn x_03_a_resource_on_all_pages_drains_the_tracker() {
    let rig = fixed(&[1, 2, 5]);
    let c = rig.attach(Kind::Surface, 0..8);
    assert_eq!(rig.transfer(&c), [(1, 3), (5, 6)]);
    assert_eq!(rig.bounds(), (6, 0));

    let rig = quirky(&[1, 2, 5]);
    let c = rig.attach(Kind::Surface, 0..8);
    assert_eq!(rig.transfer(&c), [(1, 3), (5, 6)]);
    assert_eq!(rig.bounds(), (8, 0));
}

#[test]
fn x_04_pages_that_follow_each_other_are_one_run() {
    let rig = fixed(&[1, 2]);
    let a = rig.attach(Kind::Surface, 0..4);
    assert_eq!(rig.transfer(&a), [(1, 3)]);
    assert_eq!(rig.bounds(), (3, 0));

    let rig = quirky(&[1, 2]);
    let a = rig.attach(Kind::Surface, 0..4);
    assert_eq!(rig.transfer(&a), [(1, 3)]);
    assert_eq!(rig.bounds(), (4, 0));
}

#[test]
fn x_05_a_resource_in_the_middle_leaves_both_sides() {
    let rig = fixed(&[1, 2, 3, 5]);
    let m = rig.attach(Kind::Surface, 2..4);
    assert_eq!(rig.transfer(&m), [(2, 4)]);
    assert_eq!((rig.bits(), rig.bounds()), (vec![1, 5], (1, 6)));

    let rig = quirky(&[1, 2, 3, 5]);
    let m = rig.attach(Kind::Surface, 2..4);
    assert_eq!(rig.transfer(&m), [(2, 4), (5, 6)]);
    rig.task.take_splats();
    assert_eq!((rig.bits(), rig.bounds()), (vec![1], (1, 2)));
}

#[test]
fn x_06_a_resource_outside_of_the_bounds_gets_nothing() {
    let rig = fixed(&[6, 7]);
    let a = rig.attach(Kind::Surface, 0..4);
    assert_eq!(rig.transfer(&a), []);
    assert_eq!((rig.bits(), rig.bounds()), (vec![6, 7], (6, 8)));
}

#[test]
fn x_07_clearing_all_pages_leaves_empty_bounds() {
    let rig = fixed(&[1, 5]);
    clear(&rig, 0..8);
    assert_eq!((rig.bits(), rig.bounds()), (vec![], (6, 1)));
}

#[test]
fn x_08_clearing_one_side_leaves_the_other() {
    let lower = fixed(&[1, 5]);
    clear(&lower, 0..4);
    assert_eq!((lower.bits(), lower.bounds()), (vec![5], (4, 6)));
    let upper = fixed(&[1, 5]);
    clear(&upper, 4..8);
    assert_eq!((upper.bits(), upper.bounds()), (vec![1], (1, 4)));
}

#[test]
fn x_09_clearing_the_middle_leaves_the_bounds() {
    let rig = fixed(&[1, 3, 5]);
    clear(&rig, 2..4);
    assert_eq!((rig.bits(), rig.bounds()), (vec![1, 5], (1, 6)));
}

#[test]
fn x_10_the_last_page_of_a_resource_is_handed_on_whole() {
    let rig = fixed(&[1]);
    let res = rig.attach_bytes(Kind::Surface, 0..5000);
    assert_eq!(rig.transfer(&res), [(1, 2)]);
    assert_eq!(runs(&res), std::slice::from_ref(&(4096..8192)));
}

#[test]
fn x_11_an_offset_inside_of_a_page_is_reported_and_rounded_down() {
    let rig = fixed(&[1]);
    let res = rig.attach_bytes(Kind::Surface, 5000..9000);
    assert_eq!(rig.transfer(&res), [(1, 2)]);
    assert_eq!(rig.task.take_splats(), [Splat::Driver("a resource starts inside of a page")]);
}

#[test]
fn x_12_a_write_after_a_clear_widens_stale_bounds() {
    let rig = fixed(&[1, 5]);
    clear(&rig, 0..8);
    rig.write(3..4);
    assert_eq!((rig.bits(), rig.bounds()), (vec![3], (3, 4)));
}
