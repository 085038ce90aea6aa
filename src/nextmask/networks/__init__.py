"""What training and features share: networks, how they run on a device, augmentation, files of weights."""
