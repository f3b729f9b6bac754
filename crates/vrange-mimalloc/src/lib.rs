//! `libvrange_mimalloc.so`: for programs that bring no allocator of their own. Preloaded (`LD_PRELOAD`, [`ld.so(8)`]), it takes the place
//! of libc's: mimalloc, whose free memory is volatile (crate `vrange-allocator`). It contains all of `libvrange_preload.so`, which must
//! not be loaded beside it.
//!
//! [`ld.so(8)`]: https://man7.org/linux/man-pages/man8/ld.so.8.html

mod replace;

/// Runs before `main`. Whoever preloads this library wants it, unless he says otherwise.
extern "C" fn load() {
    if let Some(settings) = vrange_malloc::Settings::read(true) {
        vrange_preload::allocators::start(&settings, false);
        vrange_allocator::start();
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;
