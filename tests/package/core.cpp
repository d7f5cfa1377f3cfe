#include <cstring>
#include <heddle/base/error.hpp>

int main() { return std::strcmp(heddle::to_string(heddle::Status::ready), "ready") == 0 ? 0 : 1; }
