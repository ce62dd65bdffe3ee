// The one way into libtorch's operators: a boxed call through the dispatcher by operator name.
//
// Invariants:
//  - Trailing arguments a caller leaves out take the schema's defaults, so an operator that grew arguments in a later libtorch still works.
//  - A number given where the schema wants a tensor becomes a 0-dim tensor: a cached one of the first tensor argument's dtype where that
//    changes no result (float32, float64, and integers for int64), else a "wrapped number", which is what the Scalar overloads make.
//  - The IValue stack and the result list are per thread and reused.
#include "mem1_torch.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using OptionalTensor = decltype(std::declval<c10::IValue&>().toOptional<at::Tensor>());

struct Operator {
    c10::OperatorHandle handle;
    std::vector<c10::IValue> defaults;
    std::vector<bool> has_default;
    std::vector<bool> wants_tensor;
};

thread_local std::string last_error;
thread_local std::vector<c10::IValue> stack;
thread_local std::vector<void*> result_list;

constexpr size_t kCachedConstants = 4096; // an optimiser's learning rate changes every step: forget all when this many are held

struct ConstantKey {
    int64_t bits;
    int8_t dtype;
    bool operator==(const ConstantKey& o) const { return bits == o.bits && dtype == o.dtype; }
};

struct ConstantHash {
    size_t operator()(const ConstantKey& k) const {
        return static_cast<size_t>((static_cast<uint64_t>(k.bits) ^ static_cast<uint64_t>(k.dtype)) * 0x9E3779B97F4A7C15ull >> 7);
    }
};

thread_local std::unordered_map<ConstantKey, at::Tensor, ConstantHash> constants;

at::Tensor borrow(const void* handle) {
    if (handle == nullptr) {
        return at::Tensor();
    }
    return at::Tensor(c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim_copy(
        const_cast<c10::TensorImpl*>(static_cast<const c10::TensorImpl*>(handle))));
}

void* give(at::Tensor t) { return t.defined() ? t.unsafeReleaseTensorImpl() : nullptr; }

at::Scalar scalar_of(const m1_value& v) {
    switch (v.tag) {
        case M1_INT: return at::Scalar(v.i);
        case M1_BOOL: return at::Scalar(v.i != 0);
        default: return at::Scalar(v.d);
    }
}

// A 0-dim tensor for a number next to a tensor of this dtype (see the invariants above).
at::Tensor number_tensor(const m1_value& v, at::ScalarType beside) {
    bool exact = beside == at::kFloat || beside == at::kDouble ? v.tag != M1_BOOL : beside == at::kLong && v.tag == M1_INT;
    if (!exact) {
        at::ScalarType own = v.tag == M1_DOUBLE ? at::kDouble : v.tag == M1_INT ? at::kLong : at::kBool;
        at::Tensor t = at::scalar_tensor(scalar_of(v), own);
        t.unsafeGetTensorImpl()->set_wrapped_number(true);
        return t;
    }
    m1_value as = v;
    if (v.tag == M1_INT && beside != at::kLong) {
        as.tag = M1_DOUBLE;
        as.d = static_cast<double>(v.i);
    }
    ConstantKey key{as.i, static_cast<int8_t>(beside)};
    auto found = constants.find(key);
    if (found != constants.end()) {
        return found->second;
    }
    c10::InferenceMode off(false); // an inference tensor could not be saved for a later backward
    at::Tensor t = at::scalar_tensor(scalar_of(as), beside);
    if (constants.size() >= kCachedConstants) {
        constants.clear();
    }
    constants.emplace(key, t);
    return t;
}

c10::IValue box(const m1_value& v) {
    switch (v.tag) {
        case M1_TENSOR: return v.p == nullptr ? c10::IValue() : c10::IValue(borrow(v.p));
        case M1_INT: return c10::IValue(v.i);
        case M1_DOUBLE: return c10::IValue(v.d);
        case M1_BOOL: return c10::IValue(v.i != 0);
        case M1_INTS: return c10::IValue(at::IntArrayRef(static_cast<const int64_t*>(v.p), v.count));
        case M1_TENSORS: {
            c10::List<at::Tensor> list;
            list.reserve(v.count);
            for (int32_t k = 0; k < v.count; k++) {
                list.push_back(borrow(static_cast<void* const*>(v.p)[k]));
            }
            return c10::IValue(std::move(list));
        }
        case M1_OPTIONAL_TENSORS: {
            c10::List<OptionalTensor> list;
            list.reserve(v.count);
            for (int32_t k = 0; k < v.count; k++) {
                const void* h = static_cast<void* const*>(v.p)[k];
                list.push_back(h == nullptr ? OptionalTensor() : OptionalTensor(borrow(h)));
            }
            return c10::IValue(std::move(list));
        }
        case M1_DEVICE: return c10::IValue(c10::Device(static_cast<c10::DeviceType>(v.count), static_cast<c10::DeviceIndex>(v.i)));
        case M1_GENERATOR: return v.p == nullptr ? c10::IValue() : c10::IValue(*static_cast<const at::Generator*>(v.p));
        case M1_STRING: return c10::IValue(std::string(static_cast<const char*>(v.p), v.count));
        default: return c10::IValue();
    }
}

// Unboxes one result; a list of tensors is left in result_list until the next call on this thread.
void unbox(c10::IValue& v, m1_value* out) {
    out->count = 0;
    out->i = 0;
    if (v.isTensor()) {
        out->tag = M1_TENSOR;
        out->p = give(std::move(v).toTensor());
    } else if (v.isInt()) {
        out->tag = M1_INT;
        out->i = v.toInt();
    } else if (v.isDouble()) {
        out->tag = M1_DOUBLE;
        out->d = v.toDouble();
    } else if (v.isBool()) {
        out->tag = M1_BOOL;
        out->i = v.toBool();
    } else if (v.isTensorList()) {
        result_list.clear();
        for (at::Tensor t : std::move(v).toTensorVector()) {
            result_list.push_back(give(std::move(t)));
        }
        out->tag = M1_TENSORS;
        out->count = static_cast<int32_t>(result_list.size());
        out->p = result_list.data();
    } else {
        out->tag = M1_NONE;
    }
}

} // namespace

void m1_set_error(const char* text) { last_error = text; }

M1_API const char* m1_last_error() { return last_error.c_str(); }

// Looks an operator up once; the handle is kept for the life of the process. Null on failure.
M1_API void* m1_op(const char* name, const char* overload) {
    try {
        c10::OperatorHandle handle = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
        auto op = new Operator{handle, {}, {}, {}};
        for (const auto& a : handle.schema().arguments()) {
            const auto& d = a.default_value();
            op->has_default.push_back(static_cast<bool>(d));
            op->defaults.push_back(d ? *d : c10::IValue());
            op->wants_tensor.push_back(a.type()->kind() == c10::TypeKind::TensorType);
        }
        return op;
    } catch (const c10::Error& e) {
        m1_set_error(e.what_without_backtrace());
    } catch (const std::exception& e) {
        m1_set_error(e.what());
    }
    return nullptr;
}

// Calls the operator. Returns how many results were written to `out`, or -1. A negative capacity drops the results (in-place operators).
M1_API int32_t m1_call(const void* operator_handle, const m1_value* args, int32_t count, m1_value* out, int32_t capacity) {
    const Operator& op = *static_cast<const Operator*>(operator_handle);
    std::vector<c10::IValue> mine; // this thread's spare stack, taken so that a nested call (an autograd hook) gets its own
    mine.swap(stack);
    try {
        size_t wanted = op.defaults.size();
        TORCH_CHECK(static_cast<size_t>(count) <= wanted, "too many arguments for ", op.handle.schema().name());
        for (int32_t k = 0; k < count; k++) {
            const m1_value& v = args[k];
            if (op.wants_tensor[k] && (v.tag == M1_DOUBLE || v.tag == M1_INT || v.tag == M1_BOOL)) {
                at::ScalarType beside = at::kByte; // no tensor argument: always a wrapped number
                for (int32_t j = 0; j < count; j++) {
                    if (args[j].tag == M1_TENSOR && args[j].p != nullptr) {
                        beside = c10::typeMetaToScalarType(static_cast<const c10::TensorImpl*>(args[j].p)->dtype());
                        break;
                    }
                }
                mine.emplace_back(number_tensor(v, beside));
            } else {
                mine.push_back(box(v));
            }
        }
        for (size_t k = count; k < wanted; k++) {
            TORCH_CHECK(op.has_default[k], "missing argument ", k, " of ", op.handle.schema().name());
            mine.push_back(op.defaults[k]);
        }
        op.handle.callBoxed(&mine);
        int32_t results = capacity < 0 ? 0 : static_cast<int32_t>(mine.size());
        TORCH_CHECK(results <= std::max(capacity, 0), "too many results of ", op.handle.schema().name());
        for (int32_t k = 0; k < results; k++) {
            unbox(mine[k], out + k);
        }
        mine.clear();
        stack.swap(mine);
        return results;
    } catch (const c10::Error& e) {
        m1_set_error(e.what_without_backtrace());
    } catch (const std::exception& e) {
        m1_set_error(e.what());
    } catch (...) {
        m1_set_error("libtorch failed with an unknown error");
    }
    mine.clear();
    stack.swap(mine);
    return -1;
}
