//! `libvrange_mimalloc.so`: for programs that bring no allocator of their own. Preloaded (`LD_PRELOAD`, [`ld.so(8)`]), it takes the place
//! of libc's: mimalloc, whose free memory is volatile (crate `vrange-allocator`). It contains all of `libvrange_preload.so`, which must
//! not be loaded beside it.
//!
//! [`ld.so(8)`]: https://man7.org/linux/man-pages/man8/ld.so.8.html

mod deep_binding;
mod limits;
mod replace;

/// Runs before `main`. Whoever preloads this library wants it, unless he says otherwise.
extern "C" fn load() {
    if let Some(settings) = vrange_malloc::Settings::read(true) {
        vrange_preload::allocators::start(&settings, false);
        vrange_allocator::start();
        vrange_preload::before_all_is_locked(limits::make_room_to_lock);
    }
}

/// With a priority: linkers put it before such functions without one, in whatever order they link. This is the first of those in the library;
/// `vrange-preload`'s follows, and then that of `vrange-allocator`, which find that all has been done, and mimalloc's. (Where hooks are off,
/// mimalloc is left to itself, and reserves more address space if its own comes before the first allocation.)
#[used]
#[unsafe(link_section = ".init_array.00200")]
static LOAD: extern "C" fn() = load;
