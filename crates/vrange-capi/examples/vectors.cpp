// Volatile memory from C++: the pins as objects, so that none is forgotten, and typed values.
//
//	c++ -std=c++17 vectors.cpp $(pkg-config --cflags --libs vrange) -o vectors && ./vectors

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <vrange.h>

namespace volatile_memory {

inline int checked(int status, const char *what)
{
	if (status < 0)
		throw std::runtime_error(std::string(what) + ": " + vrange_strerror(status));
	return status;
}

struct Free {
	void operator()(vrange_heap *heap) const { vrange_heap_free(heap); }
	void operator()(vrange_buffer *buffer) const { vrange_buffer_free(buffer); }
};

using Heap = std::unique_ptr<vrange_heap, Free>;

inline Heap make_heap(const vrange_heap_options &options)
{
	vrange_heap *heap = nullptr;
	checked(vrange_heap_new(&options, sizeof(options), &heap), "vrange_heap_new");
	return Heap(heap);
}

// Values that may vanish whenever nobody holds a Pin. All bits zero has to be a value of T, since that is what is read
// where something was lost.
template <typename T> class Vector {
	static_assert(std::is_trivially_copyable<T>::value, "bytes are all there is");

public:
	Vector(const Heap &heap, std::size_t count) : count_(count)
	{
		vrange_buffer *buffer = nullptr;
		checked(vrange_buffer_new(heap.get(), count * sizeof(T), &buffer), "vrange_buffer_new");
		buffer_.reset(buffer);
	}

	class Pin {
	public:
		Pin(Pin &&other) noexcept
			: vector_(std::exchange(other.vector_, nullptr)), values_(other.values_),
			  was_purged_(other.was_purged_)
		{
		}
		Pin(const Pin &) = delete;
		Pin &operator=(const Pin &) = delete;
		Pin &operator=(Pin &&) = delete;
		~Pin()
		{
			if (vector_)
				vrange_buffer_unpin(vector_->buffer_.get());
		}
		T *begin() { return values_; }
		T *end() { return values_ + vector_->count_; }
		bool was_purged() const { return was_purged_; }
		void acknowledge()
		{
			checked(vrange_buffer_acknowledge(vector_->buffer_.get()), "vrange_buffer_acknowledge");
			was_purged_ = false;
		}

	private:
		friend class Vector;
		explicit Pin(Vector &vector) : vector_(&vector)
		{
			void *bytes = nullptr;
			int found = vrange_buffer_pin_mut(vector.buffer_.get(), &bytes);
			was_purged_ = checked(found, "vrange_buffer_pin_mut") == VRANGE_STATUS_PURGED;
			values_ = static_cast<T *>(bytes);
		}

		Vector *vector_;
		T *values_ = nullptr;
		bool was_purged_ = false;
	};

	Pin pin() { return Pin(*this); }
	void release() { checked(vrange_buffer_release(buffer_.get()), "vrange_buffer_release"); }

private:
	std::unique_ptr<vrange_buffer, Free> buffer_;
	std::size_t count_;
};

} // namespace volatile_memory

static void compute(volatile_memory::Vector<double>::Pin &squares)
{
	double next = 0;
	for (double &square : squares) {
		square = next * next;
		next += 1;
	}
	if (squares.was_purged())
		squares.acknowledge();
}

int main()
{
	vrange_heap_options options = {};
	options.name = "vectors";
	auto heap = volatile_memory::make_heap(options);
	volatile_memory::Vector<double> squares(heap, 100000);

	{
		auto pin = squares.pin();
		compute(pin);
	}
	bool kept = !squares.pin().was_purged();
	squares.release();
	auto pin = squares.pin();
	bool lost = pin.was_purged();
	if (lost)
		compute(pin);
	bool right = pin.begin()[300] == 90000.0;
	std::printf("kept while memory was plentiful: %s; told of a loss: %s; right again: %s\n", kept ? "yes" : "no",
		    lost ? "yes" : "no", right ? "yes" : "no");
	return kept && lost && right ? EXIT_SUCCESS : EXIT_FAILURE;
}
