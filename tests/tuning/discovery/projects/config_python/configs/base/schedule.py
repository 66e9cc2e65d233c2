optimizer = dict(type="SGD", lr=0.1, momentum=0.9)
runner = dict(max_epochs=2)
