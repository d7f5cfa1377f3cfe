#include <heddle/train/dataset.hpp>
#include <heddle/train/model.hpp>

int main() {
  const heddle::SplitData digits = heddle::load_digits();
  const heddle::Mlp softmax(digits.train.features, {}, digits.train.classes);
  return softmax.classes() == 10 ? 0 : 1;
}
