// Everything that is not an operator: lifetime and shape of tensors, autograd, grad modes, generators, threads and devices.
//
// Invariant: a function that can fail returns a status through `guarded`; the ones called without a status cannot throw.
#include "mem1_torch.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/ScalarTypeToTypeMeta.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <mutex>
#include <string>
#include <vector>

namespace {

template <typename F>
int32_t guarded(F f) {
    try {
        f();
        return 0;
    } catch (const c10::Error& e) {
        m1_set_error(e.what_without_backtrace());
    } catch (const std::exception& e) {
        m1_set_error(e.what());
    } catch (...) {
        m1_set_error("libtorch failed with an unknown error");
    }
    return -1;
}

using ImplPtr = c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;

at::Tensor borrow(void* handle) {
    return handle == nullptr ? at::Tensor() : at::Tensor(ImplPtr::reclaim_copy(static_cast<c10::TensorImpl*>(handle)));
}

void* give(at::Tensor t) { return t.defined() ? t.unsafeReleaseTensorImpl() : nullptr; }

torch::autograd::variable_list borrow_all(void* const* handles, int32_t count) {
    torch::autograd::variable_list list;
    list.reserve(count);
    for (int32_t k = 0; k < count; k++) {
        list.push_back(borrow(handles[k]));
    }
    return list;
}

} // namespace

// ---- start-up -------------------------------------------------------------------------------------------------------------------------

// Once per process, before the first tensor. Backtraces are switched off: one costs milliseconds and says nothing about managed callers.
M1_API int32_t m1_init() {
    return guarded([] {
        m1_install_allocator();
        c10::SetStackTraceFetcher(std::function<std::string()>([] { return std::string(); }));
        at::set_num_threads(1);
    });
}

M1_API const char* m1_version() { return TORCH_VERSION; }

// ---- tensors --------------------------------------------------------------------------------------------------------------------------

M1_API void m1_release(void* handle) {
    if (handle != nullptr) {
        ImplPtr::reclaim(static_cast<c10::TensorImpl*>(handle)).reset();
    }
}

// Another owned reference to the same tensor.
M1_API void* m1_retain(void* handle) { return give(borrow(handle)); }

M1_API int32_t m1_describe(void* handle, m1_meta* out) {
    return guarded([&] {
        auto impl = static_cast<c10::TensorImpl*>(handle);
        at::Tensor t = borrow(handle);
        bool strided = t.layout() == at::kStrided;
        c10::Device device = t.device();
        out->sizes = impl->sizes().data();
        out->strides = strided ? impl->strides().data() : nullptr;
        out->numel = impl->numel();
        out->storage_offset = strided ? impl->storage_offset() : 0;
        out->dim = static_cast<int32_t>(impl->dim());
        out->dtype = static_cast<int32_t>(t.scalar_type());
        out->device_type = static_cast<int32_t>(device.type());
        out->device_index = device.index();
        out->element_size = static_cast<int32_t>(t.element_size());
        out->flags = (strided && impl->is_contiguous() ? 1 : 0) | (t.requires_grad() ? 2 : 0) | (t.is_leaf() ? 4 : 0) |
            (strided ? 0 : 8) | (t.is_inference() ? 16 : 0);
    });
}

M1_API void* m1_data(void* handle) {
    void* p = nullptr;
    guarded([&] { p = borrow(handle).data_ptr(); });
    return p;
}

// A CPU tensor over the caller's memory; `deleter(context)` runs when the last tensor that shares it is gone.
M1_API void* m1_from_blob(void* data, const int64_t* sizes, int32_t dim, int32_t dtype, void (*deleter)(void*), void* context) {
    void* result = nullptr;
    guarded([&] {
        at::Tensor t = at::from_blob(
            data, at::IntArrayRef(sizes, dim), [deleter, context](void*) { deleter(context); },
            at::TensorOptions().dtype(static_cast<at::ScalarType>(dtype)));
        result = give(std::move(t));
    });
    return result;
}

// The two tensors share storage, sizes and dtype from here on (`t.data = other` of PyTorch).
M1_API int32_t m1_set_data(void* handle, void* other) {
    return guarded([&] { borrow(handle).set_data(borrow(other)); });
}

// ---- autograd -------------------------------------------------------------------------------------------------------------------------

M1_API int32_t m1_set_requires_grad(void* handle, int32_t value) {
    return guarded([&] { borrow(handle).set_requires_grad(value != 0); });
}

M1_API void* m1_grad(void* handle) {
    void* result = nullptr;
    guarded([&] { result = give(borrow(handle).grad()); });
    return result;
}

M1_API int32_t m1_set_grad(void* handle, void* grad) {
    return guarded([&] { borrow(handle).mutable_grad() = borrow(grad); });
}

M1_API int32_t m1_retain_grad(void* handle) {
    return guarded([&] { borrow(handle).retain_grad(); });
}

// retain_graph: 0, 1, or -1 for "as create_graph".
M1_API int32_t m1_backward(void* const* tensors, int32_t count, void* const* gradients, int32_t gradient_count, int32_t retain_graph,
    int32_t create_graph, void* const* inputs, int32_t input_count) {
    return guarded([&] {
        auto roots = borrow_all(tensors, count);
        auto seeds = borrow_all(gradients, gradient_count);
        auto leaves = borrow_all(inputs, input_count);
        torch::autograd::backward(roots, seeds, retain_graph < 0 ? create_graph != 0 : retain_graph != 0, create_graph != 0, leaves);
    });
}

// Writes one owned handle per input (null where unused and allowed).
M1_API int32_t m1_gradients(void* const* outputs, int32_t output_count, void* const* inputs, int32_t input_count,
    void* const* gradients, int32_t gradient_count, int32_t retain_graph, int32_t create_graph, int32_t allow_unused, void** results) {
    return guarded([&] {
        auto list = torch::autograd::grad(borrow_all(outputs, output_count), borrow_all(inputs, input_count),
            borrow_all(gradients, gradient_count), retain_graph != 0, create_graph != 0, allow_unused != 0);
        for (size_t k = 0; k < list.size(); k++) {
            results[k] = give(std::move(list[k]));
        }
    });
}

M1_API int32_t m1_grad_enabled() { return c10::GradMode::is_enabled(); }

M1_API void m1_set_grad_enabled(int32_t value) { c10::GradMode::set_enabled(value != 0); }

M1_API int32_t m1_inference_enabled() { return c10::InferenceMode::is_enabled(); }

M1_API void* m1_inference_begin(int32_t value) { return new c10::InferenceMode(value != 0); }

M1_API void m1_inference_end(void* guard) { delete static_cast<c10::InferenceMode*>(guard); }

// ---- defaults, threads, devices -------------------------------------------------------------------------------------------------------

M1_API int32_t m1_default_dtype() { return static_cast<int32_t>(c10::get_default_dtype_as_scalartype()); }

M1_API int32_t m1_set_default_dtype(int32_t dtype) {
    return guarded([&] { c10::set_default_dtype(c10::scalarTypeToTypeMeta(static_cast<at::ScalarType>(dtype))); });
}

M1_API int32_t m1_threads() { return at::get_num_threads(); }

M1_API int32_t m1_set_threads(int32_t n) {
    return guarded([&] { at::set_num_threads(n); });
}

M1_API int32_t m1_interop_threads() { return at::get_num_interop_threads(); }

M1_API int32_t m1_set_interop_threads(int32_t n) {
    return guarded([&] { at::set_num_interop_threads(n); });
}

M1_API int32_t m1_cuda_devices() {
    int32_t n = 0;
    guarded([&] { n = static_cast<int32_t>(torch::cuda::device_count()); });
    return n;
}

M1_API int32_t m1_has_cudnn() { return torch::cuda::cudnn_is_available(); }

M1_API int32_t m1_cuda_synchronize(int32_t index) {
    return guarded([&] { torch::cuda::synchronize(index); });
}

// which: 0 matmul TF32, 1 cuDNN TF32, 2 deterministic algorithms. value < 0 only reads.
M1_API int32_t m1_context_flag(int32_t which, int32_t value) {
    int32_t result = 0;
    guarded([&] {
        auto& c = at::globalContext();
        bool on = value > 0;
        switch (which) {
            case 0:
                if (value >= 0) c.setAllowTF32CuBLAS(on);
                result = c.allowTF32CuBLAS();
                break;
            case 1:
                if (value >= 0) c.setAllowTF32CuDNN(on);
                result = c.allowTF32CuDNN();
                break;
            case 2:
                if (value >= 0) c.setDeterministicAlgorithms(on, false);
                result = c.deterministicAlgorithms();
                break;
        }
    });
    return result;
}

// ---- random numbers -------------------------------------------------------------------------------------------------------------------

// A generator of its own, seeded; other devices clone their default generator because making one needs that device's headers.
M1_API void* m1_generator(uint64_t seed, int32_t device_type, int32_t device_index) {
    void* result = nullptr;
    guarded([&] {
        at::Generator g;
        if (device_type == static_cast<int32_t>(c10::DeviceType::CPU)) {
            g = at::detail::createCPUGenerator(seed);
        } else {
            c10::Device device(static_cast<c10::DeviceType>(device_type), static_cast<c10::DeviceIndex>(device_index));
            g = at::globalContext().defaultGenerator(device).clone();
            g.set_current_seed(seed);
        }
        result = new at::Generator(std::move(g));
    });
    return result;
}

M1_API void* m1_default_generator() { return new at::Generator(at::detail::getDefaultCPUGenerator()); }

M1_API void m1_generator_free(void* g) { delete static_cast<at::Generator*>(g); }

M1_API int32_t m1_generator_set_seed(void* g, uint64_t seed) {
    return guarded([&] {
        auto& generator = *static_cast<at::Generator*>(g);
        std::lock_guard<std::mutex> lock(generator.mutex());
        generator.set_current_seed(seed);
    });
}

M1_API uint64_t m1_generator_seed(void* g, int32_t fresh) {
    auto& generator = *static_cast<at::Generator*>(g);
    std::lock_guard<std::mutex> lock(generator.mutex());
    return fresh != 0 ? generator.seed() : generator.current_seed();
}

M1_API void* m1_generator_get_state(void* g) {
    void* result = nullptr;
    guarded([&] {
        auto& generator = *static_cast<at::Generator*>(g);
        std::lock_guard<std::mutex> lock(generator.mutex());
        result = give(generator.get_state());
    });
    return result;
}

M1_API int32_t m1_generator_set_state(void* g, void* state) {
    return guarded([&] {
        auto& generator = *static_cast<at::Generator*>(g);
        std::lock_guard<std::mutex> lock(generator.mutex());
        generator.set_state(borrow(state));
    });
}

// Seeds the default generators of every device.
M1_API int32_t m1_manual_seed(uint64_t seed) {
    return guarded([&] { at::manual_seed(seed); });
}
